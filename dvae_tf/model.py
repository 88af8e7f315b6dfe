"""The denoising variational auto-encoder: one model class, every cell of the table of bounds."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import bounds, corruptions, counts, layers, randomness
from dvae_tf.evidence import likelihood
from dvae_tf.kinds.image import checks as images

OBJECTIVES = ("elbo", "iwae")
POSTERIORS = ("conditional", "mixture")
GRADIENTS = ("reparameterized", "doubly_reparameterized")

# The first number folded into the seed says what the randomness is for.
_TRAINING, _VALIDATION, _DENOISING, _PRIOR, _SCORING, _BINARIZATION = range(6)


class BoundTerms(NamedTuple):
    """What one evaluation of the bound yields; all are [B], in nats, larger is better but for kl.

    Attributes:
        objective: what training ascends: the bound, with the KL term weighted.
        bound: the cell of the table that was asked for.
        elbo: reconstruction - kl, whatever the objective.
        reconstruction: mean over k, m of log p(x|z_km).
        kl: mean over m of KL(q_m || p(z)).
    """

    objective: tf.Tensor
    bound: tf.Tensor
    elbo: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor


class Denoised(NamedTuple):
    """A denoised batch.

    Attributes:
        mean: of every pixel, [B, H, W, C].
        stddev: standard deviation of every pixel, [B, H, W, C].
    """

    mean: tf.Tensor
    stddev: tf.Tensor


class _RunningMeans(keras.metrics.Metric):
    """Weighted means of several values, in one variable.

    A variable for each would cost a short training step a twentieth of its time.
    """

    def __init__(self, value_names: tuple[str, ...]):
        super().__init__(name="loss")  # which `evaluate` returns first
        self._value_names = value_names
        self._totals = self.add_weight(
            shape=(len(value_names) + 1,), initializer="zeros", dtype="float32", name="totals"
        )

    @property
    def count(self) -> tf.Tensor:
        """The weights so far, added up."""
        return self._totals[-1]

    def update_state(self, values, sample_weight):
        weight = tf.cast(sample_weight, tf.float32)
        self._totals.assign_add(weight * tf.stack([*values, 1.0]))

    def result(self) -> dict[str, tf.Tensor]:
        means = tf.math.divide_no_nan(self._totals[:-1], self.count)
        return dict(zip(self._value_names, tf.unstack(means), strict=True))


@keras.saving.register_keras_serializable(package="dvae_tf")
class DVAE(keras.Model):
    """A denoising VAE (Im, Ahn, Memisevic, Bengio, AAAI 2017, arXiv:1511.06406).

    Training corrupts a clean x to x~, encodes x~ to q(z|x~), decodes z to p(x|z) and scores the
    clean x, also in the KL term:

        L_dvae = E_{p(x~|x)} E_{q(z|x~)} [ log p(x|z) + log p(z) - log q(z|x~) ],  p(z) = N(0, I).

    VAE, DVAE, IWAE and DIWAE are cells of one table (see `bounds`): without a corruption the model
    is a VAE, with `objective="iwae"` an IWAE.

    `fit` takes batches of x, or of (x, label) whose numeric label is ignored, or of (noisy, clean) with
    `paired=True`. Images are float32 in [0, 1], [batch, height, width, channels]. It logs the means
    per example of `loss`, `bound`, `elbo`, `reconstruction` and `kl`, in nats. That values lie in
    [0, 1] is checked of arrays, and not of data sets. Validation scores the
    same bound on the same corruption, with the same noise in every epoch.

    Under a mixed-precision policy of Keras the networks' hidden layers compute in bfloat16 or float16,
    all distributions, densities and bounds in float32. Under mixed_float16 `compile` has Keras scale
    the loss; a step whose gradient overflows leaves everything but that scale as it was, and the
    next step has its random numbers.

    Every random number is a function of (seed, optimizer step): the same seed trains the same
    model, and a run that is resumed continues as if it had never stopped.

    Args:
        encoder: a Keras model from images to a distribution over latent vectors [B, L].
        decoder: a Keras model from latent vectors to a distribution over images.
        corruption: p(x~|x), from `corruptions`; None corrupts nothing.
        objective: "elbo" for the mean of the log weights, "iwae" for their log-mean-exp.
        posterior: "conditional" on each corruption, or the "mixture" of the M corrupted posteriors.
        num_corruptions: M, corruptions drawn for each example.
        num_samples: K, latent samples drawn for each corruption.
        gradient: "reparameterized", or "doubly_reparameterized" (Tucker et al. 2019), which needs
            objective="iwae" and posterior="conditional".
        test_corruption: the corruption that validation applies; None takes that of training.
            `corruptions.Identity()` scores the bound of clean inputs.
        paired: whether batches are pairs (noisy, clean) of real noise. The corruption must then be
            None and `num_corruptions` 1.
        binarize: whether training draws the pixels of every batch anew, 1 with the probability that
            is their value and else 0, as Burda et al. (2016) do. Binary images stay as they are.
        latent_dim: L, needed only when it cannot be read from the decoder's input shape.
        seed: an integer from 0 to 2**62 - 1.

    Raises:
        TypeError, ValueError: if an argument is not of the kind said above.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        corruption: corruptions.Corruption | None = None,
        objective: str = "elbo",
        posterior: str = "conditional",
        num_corruptions: int = 1,
        num_samples: int = 1,
        gradient: str = "reparameterized",
        test_corruption: corruptions.Corruption | None = None,
        paired: bool = False,
        binarize: bool = False,
        latent_dim: int | None = None,
        seed: int = 0,
        **kwargs,
    ):
        # By the policy of a model Keras decides whether its loss must be scaled, for float16.
        super().__init__(**({"dtype": encoder.dtype_policy} | kwargs))
        corruption = corruptions.Identity() if corruption is None else corruption
        test_corruption = corruption if test_corruption is None else test_corruption
        for name, value in (("corruption", corruption), ("test_corruption", test_corruption)):
            if not isinstance(value, corruptions.Corruption):
                raise TypeError(
                    f"`{name}` must be None or made from dvae_tf.corruptions, for example "
                    f"Gaussian(0.1). Received: {name}={value!r}."
                )
        check_bound(
            objective=objective,
            posterior=posterior,
            num_corruptions=num_corruptions,
            num_samples=num_samples,
            gradient=gradient,
        )
        if paired and (corruption != corruptions.Identity() or num_corruptions != 1):
            raise ValueError(
                "`paired` data bring their own noise: `corruption` must be None and "
                "`num_corruptions` 1. "
                f"Received: corruption={corruption!r}, num_corruptions={num_corruptions}."
            )
        if paired and binarize:
            raise ValueError(
                "`binarize` must be False for `paired` data, whose noisy images belong to the clean "
                "ones as they are. Received: paired=True, binarize=True. Binarise the data."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.corruption = corruption
        self.test_corruption = test_corruption
        self.objective = objective
        self.posterior = posterior
        self.num_corruptions = num_corruptions
        self.num_samples = num_samples
        self.gradient = gradient
        self.paired = paired
        self.binarize = binarize
        self.latent_dim = _latent_dim(decoder) if latent_dim is None else latent_dim
        self.seed = seed
        randomness.as_seed(seed)  # refuses what is not a seed
        self.built = bool(encoder.built and decoder.built)
        # A variable, so that callbacks change it without a new trace.
        self.kl_weight = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="kl_weight"
        )
        self._logged = _RunningMeans(("loss", *BoundTerms._fields[1:]))

    # ---- the bound ----

    def bound_terms(
        self,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        corruption: corruptions.Corruption | None = None,
        noisy: tf.Tensor | None = None,
    ) -> BoundTerms:
        """Evaluate the model's cell of the table on one batch.

        Args:
            x: clean images, [B, H, W, C].
            seed: int32 tensor of shape [2].
            corruption: p(x~|x); None takes the model's own.
            noisy: x~ itself, [B, H, W, C], for paired data; nothing is then corrupted.
        """
        m, k = self.num_corruptions, self.num_samples
        corruption_seed, latent_seed = randomness.split(seed)
        # x~_m ~ p(x~|x)
        if noisy is None:
            corruption = self.corruption if corruption is None else corruption
            noisy = corruption(_repeat(x, m), seed=corruption_seed)  # [M B, H, W, C]
        # q_m = q(z|x~_m)
        q = self.encoder(noisy)
        # z_km ~ q_m
        z = layers.reparameterized_sample(q, seed=latent_seed, num_samples=k)  # [K, M B, L]
        estimator = bounds.DoublyReparameterized()
        doubly = self.gradient == "doubly_reparameterized"
        if doubly:
            z = _merge(estimator.path(_separate(z, m)))
        # p(x|z_km), of the clean x
        p = self.decoder(tf.reshape(z, [-1, z.shape[-1]]))
        log_likelihood = tf.reshape(p.log_prob(_repeat(x, k * m)), [k, m, -1])
        reconstruction = tf.reduce_mean(log_likelihood, axis=(0, 1))
        # KL(q_m || p(z))
        prior = layers.standard_normal(q)
        try:
            kl = _separate(tfd.kl_divergence(q, prior), m)  # [M, B]
        except NotImplementedError:
            kl = tf.reduce_mean(_separate(q.log_prob(z) - prior.log_prob(z), m), axis=0)
        elbo = bounds.analytic_elbo(log_likelihood, kl)
        mean_kl = tf.reduce_mean(kl, axis=0)
        if self.objective == "elbo" and self.posterior == "conditional":
            objective = bounds.analytic_elbo(log_likelihood, kl, kl_weight=self.kl_weight)
            return BoundTerms(objective, elbo, elbo, reconstruction, mean_kl)

        log_prior = _separate(prior.log_prob(z), m)  # [K, M, B]
        if self.posterior == "mixture":
            log_posterior = bounds.mixture_log_density(_cross_log_posterior(q, z, m))
        elif doubly:
            log_posterior = _separate(bounds.path_log_density(q.log_prob, z), m)
        else:
            log_posterior = _separate(q.log_prob(z), m)
        log_w = bounds.log_weights(log_likelihood, log_prior, log_posterior)
        weighted = bounds.log_weights(
            log_likelihood, log_prior, log_posterior, kl_weight=self.kl_weight
        )
        if self.objective == "elbo":
            bound, objective = bounds.mean(log_w), bounds.mean(weighted)
        elif doubly:
            bound, objective = bounds.log_mean(log_w), estimator.log_mean(weighted)
        else:
            bound, objective = bounds.log_mean(log_w), bounds.log_mean(weighted)
        return BoundTerms(objective, bound, elbo, reconstruction, mean_kl)

    # ---- training ----

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; as `keras.Model.fit`, but that arrays of clean images must be in [0, 1].

        Raises:
            ValueError: if they are not.
        """
        self._check_arrays(x, y)
        try:
            return super().fit(x, y, *args, **kwargs)
        except BaseException:
            # A step that was not traced to its end could not make the optimizer's variables later.
            if not getattr(self.optimizer, "built", True):
                self.train_function = None
            raise

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Validate; as `keras.Model.evaluate`, but that arrays of clean images must be in [0, 1].

        Raises:
            ValueError: if they are not.
        """
        self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def _check_arrays(self, x, y) -> None:
        """Look at values before the steps, whose graphs cannot."""
        clean = y if self.paired else x
        if isinstance(clean, np.ndarray | tf.Tensor):
            images.check(clean, self._clean_model, clean=True)

    def train_step(self, data):
        loss, terms, gradient = self.training_gradient(data)
        self.optimizer.apply_gradients(zip(gradient, self.trainable_variables, strict=True))
        return self._track(loss, terms)

    def training_gradient(self, data) -> tuple[tf.Tensor, BoundTerms, list[tf.Tensor]]:
        """Return loss, terms of the bound and gradient of the step that comes next.

        Under a distribution strategy the gradient is this replica's share of the mean's; with loss
        scaling it is scaled.
        """
        x, noisy = self._unpack(data)
        seed = self._step_seed(_TRAINING, self.optimizer.iterations)
        if self.binarize:
            # Here and not in the input pipeline, whose thread would take a core from this step.
            pixel_seed = self._step_seed(_BINARIZATION, self.optimizer.iterations)
            x = tf.cast(randomness.uniform(tf.shape(x), pixel_seed) < x, tf.float32)
        with tf.GradientTape() as tape:
            terms = self.bound_terms(x, seed=seed, noisy=noisy)
            loss = self._loss(terms)
            # Gradients are summed over replicas: each contributes its share of the mean.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            share = self.optimizer.scale_loss(share)
        return loss, terms, tape.gradient(share, self.trainable_variables)

    def test_step(self, data):
        x, noisy = self._unpack(data)
        # The examples counted so far in this evaluation number its batches.
        seed = self._step_seed(_VALIDATION, self._logged.count)
        terms = self.bound_terms(x, seed=seed, noisy=noisy, corruption=self.test_corruption)
        return self._track(self._loss(terms), terms)

    def _unpack(self, data) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return (clean, noisy), or (clean, None) when the model is to corrupt by itself."""
        first, second, weight = keras.utils.unpack_x_y_sample_weight(data)
        if weight is not None:
            raise ValueError(
                "`fit` takes batches of x, (x, label) or (noisy, clean), without sample weights. "
                "Received: a third element in the batch. Drop it."
            )
        if self.paired and second is None:
            raise ValueError(
                "A model made with paired=True takes batches (noisy, clean). Received: one tensor."
            )
        if self.paired:
            return self._clean_images(second), self._as_images(first)
        return self._clean_images(first), None

    def _as_images(self, x) -> tf.Tensor:
        return images.as_images(x, self.encoder)

    def _clean_images(self, x) -> tf.Tensor:
        return images.as_images(x, self._clean_model, clean=True)

    @property
    def _clean_model(self) -> keras.Model | None:
        """What takes clean images: of pairs, which may differ in size, the encoder takes the others."""
        return None if self.paired else self.encoder

    def _step_seed(self, purpose: int, step) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return randomness.fold_in(randomness.as_seed(self.seed), purpose, step, replica)

    def _loss(self, terms: BoundTerms) -> tf.Tensor:
        # A hidden layer's penalty on its activations has the dtype these have.
        penalties = (tf.cast(penalty, tf.float32) for penalty in self.losses)
        return tf.add_n([-tf.reduce_mean(terms.objective), *penalties])

    def _track(self, loss, terms: BoundTerms) -> dict[str, tf.Tensor]:
        means = (loss, *(tf.reduce_mean(term) for term in terms[1:]))
        self._logged.update_state(means, sample_weight=tf.shape(terms.bound)[0])
        logs = self._logged.result()
        if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            # Keras reduces what workers return along its first axis.
            logs = {name: value[tf.newaxis] for name, value in logs.items()}
        return logs

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self._logged]

    def compile(self, optimizer: Any = "adam", **kwargs):
        """Configure training; as `keras.Model.compile`, but that the loss is the bound.

        `jit_compile="auto"`, the default, compiles with XLA on a CPU too, where Keras would not: the
        step is then about twice as fast.

        Raises:
            ValueError: if a loss or metrics are given.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` must not be given: the model's loss is its bound, and it logs its own "
                    f"metrics. Received: {name}={kwargs[name]!r}. Call compile(optimizer)."
                )
        has_accelerator = any(d.device_type != "CPU" for d in tf.config.list_physical_devices())
        is_auto = kwargs.get("jit_compile", "auto") == "auto"
        if is_auto and not has_accelerator and not kwargs.get("run_eagerly"):
            # XLA cannot exchange gradients between the replicas of processors.
            kwargs["jit_compile"] = tf.distribute.get_strategy().num_replicas_in_sync == 1
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config):
        # Keras restores no model with a compile of its own; this one takes the same arguments.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # ---- use ----

    def call(self, noisy):
        """Denoise: the mean image of p(x|z) at the posterior mean of z. Draws and corrupts nothing."""
        return self.decoder(self.encoder(self._as_images(noisy)).mean()).mean()

    def build(self, input_shape=None):
        # Encoder and decoder build themselves; there is nothing else to make.
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def denoise(self, noisy, *, num_samples: int = 16, seed: int = 0) -> Denoised:
        """Denoise by averaging over the posterior.

        Args:
            noisy: [B, H, W, C]; nothing is corrupted further.
            num_samples: S, latent samples for each image. 0 decodes the posterior mean, as `call`.
            seed: of the samples.

        Returns:
            mean: (1/S) sum_s E[x|z_s], z_s ~ q(z|x~).
            stddev: the square root of (1/S) sum_s Var[x|z_s] + Var_s E[x|z_s].
        """
        counts.check("num_samples", num_samples, 0)
        q = self.encoder(self._as_images(noisy))
        if num_samples == 0:
            p = self.decoder(q.mean())
            return Denoised(p.mean(), p.stddev())
        seed = randomness.fold_in(randomness.as_seed(seed), _DENOISING)
        z = layers.reparameterized_sample(q, seed=seed, num_samples=num_samples)  # [S, B, L]
        p = self.decoder(tf.reshape(z, [-1, z.shape[-1]]))
        means = _separate(p.mean(), num_samples, axis=0)  # [S, B, H, W, C]
        variances = _separate(p.variance(), num_samples, axis=0)
        variance = tf.reduce_mean(variances, 0) + tf.math.reduce_variance(means, 0)
        return Denoised(tf.reduce_mean(means, 0), tf.sqrt(variance))

    def sample(self, num_images: int, *, seed: int = 0) -> tf.Tensor:
        """Return the mean images E[x|z] of `num_images` latents z ~ p(z): [n, H, W, C]."""
        counts.check("num_images", num_images, 0)
        seed = randomness.fold_in(randomness.as_seed(seed), _PRIOR)
        return self.decoder(randomness.normal([num_images, self.latent_dim], seed)).mean()

    def elbo(self, x, *, num_samples: int = 1, seed: int = 0) -> tf.Tensor:
        """Return the ELBO of clean inputs, E_{q(z|x)}[log p(x|z)] - KL(q(z|x) || p(z)): [B], in nats.

        Args:
            x: clean images, [B, H, W, C].
            num_samples: K, latent samples for the reconstruction term.
            seed: of the samples.
        """
        counts.check("num_samples", num_samples, 1)
        x = self._clean_images(x)
        seed = randomness.fold_in(randomness.as_seed(seed), _SCORING)
        q = self.encoder(x)
        z = layers.reparameterized_sample(q, seed=seed, num_samples=num_samples)  # [K, B, L]
        p = self.decoder(tf.reshape(z, [-1, z.shape[-1]]))
        log_likelihood = tf.reshape(p.log_prob(_repeat(x, num_samples)), [num_samples, -1])
        return tf.reduce_mean(log_likelihood, 0) - tfd.kl_divergence(q, layers.standard_normal(q))

    def log_likelihood(self, x, *, num_samples: int = 5000, seed: int = 0) -> np.ndarray:
        """Return log p(x) by importance sampling from q(z|x): [B], in nats; see `likelihood`."""
        x = self._clean_images(x)
        estimate = likelihood.importance_sampling(
            self.encoder, self.decoder, x, num_samples=num_samples, seed=seed
        )
        return estimate.log_likelihood

    # ---- saving ----

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("encoder", "decoder", "corruption", "test_corruption"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        for name in (
            "objective",
            "posterior",
            "num_corruptions",
            "num_samples",
            "gradient",
            "paired",
            "binarize",
            "latent_dim",
            "seed",
        ):
            config[name] = getattr(self, name)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("encoder", "decoder", "corruption", "test_corruption"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def check_bound(
    *, objective: str, posterior: str, num_corruptions: int, num_samples: int, gradient: str
) -> None:
    """Refuse what is no cell of the table of bounds.

    Raises:
        ValueError: with the requirement, the value and the remedy.
    """
    for name, value, choices in (
        ("objective", objective, OBJECTIVES),
        ("posterior", posterior, POSTERIORS),
        ("gradient", gradient, GRADIENTS),
    ):
        if value not in choices:
            raise ValueError(
                f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}."
            )
    for name, count in (("num_corruptions", num_corruptions), ("num_samples", num_samples)):
        counts.check(name, count)
    if gradient == "doubly_reparameterized" and (objective, posterior) != ("iwae", "conditional"):
        raise ValueError(
            "gradient='doubly_reparameterized' must go with objective='iwae' and "
            f"posterior='conditional'. Received: objective={objective!r}, posterior={posterior!r}. "
            "Use gradient='reparameterized' for this bound."
        )


def _latent_dim(decoder) -> int:
    shape = getattr(decoder, "input_shape", None)
    if shape is None or len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "`latent_dim` must be given when the decoder's input shape is not known as [B, L]. "
            f"Received: a decoder of input shape {shape}."
        )
    return int(shape[1])


def _repeat(x: tf.Tensor, times: int) -> tf.Tensor:
    """[B, ...] -> [times B, ...], the whole batch one time after the other."""
    return x if times == 1 else tf.tile(x, [times] + [1] * (x.shape.rank - 1))


def _separate(values: tf.Tensor, count: int, axis: int | None = None) -> tf.Tensor:
    """Split the axis of length count B in two: [..., count B, ...] -> [..., count, B, ...].

    The axis is 0 for rank 1 tensors and 1 for [K, M B, ...], unless said.
    """
    axis = min(values.shape.rank - 1, 1) if axis is None else axis
    shape = tf.shape(values)
    return tf.reshape(values, tf.concat([shape[:axis], [count, -1], shape[axis + 1 :]], axis=0))


def _merge(values: tf.Tensor) -> tf.Tensor:
    """[K, M, B, L] -> [K, M B, L]."""
    return tf.reshape(values, [values.shape[0], -1, values.shape[-1]])


def _cross_log_posterior(q: tfd.Distribution, z: tf.Tensor, m: int) -> tf.Tensor:
    """Return log q_j(z_km) for every j: [M, K, M, B].

    Each z is repeated along the merged axis M B of the posteriors, so that any distribution over it
    serves, whatever its parameters.
    """
    repeated = tf.tile(_separate(z, m), [1, 1, m, 1])  # [K, M, M B, L], entry j B + b being z_kmb
    crossed = _separate(q.log_prob(repeated), m, axis=2)  # [K, M, M, B]
    return tf.transpose(crossed, [2, 0, 1, 3])
