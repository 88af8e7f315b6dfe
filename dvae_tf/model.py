"""The denoising variational auto-encoder: one model class, every cell of the table of bounds."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import bounds, corruptions, counts, densities, latents, nests, randomness
from dvae_tf.evidence import importance_sampling
from dvae_tf.kinds import Kind, kind_of
from dvae_tf.kinds.kind import Example
from dvae_tf.priors import Prior, StandardNormal

# Arguments that are objects, saved as such.
_OBJECTS = ("encoder", "decoder", "corruption", "test_corruption", "prior", "kind")

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
        mean: of every value, for images [B, H, W, C].
        stddev: standard deviation of every value, of the same shape.
    """

    mean: Example
    stddev: Example


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

        L_dvae = E_{p(x~|x)} E_{q(z|x~)} [ log p(x|z) + log p(z) - log q(z|x~) ].

    VAE, DVAE, IWAE and DIWAE are cells of one table (see `bounds`): without a corruption the model
    is a VAE, with `objective="iwae"` an IWAE.

    `fit` takes batches of x, or of (x, label) whose numeric label is ignored, or of (noisy, clean)
    with `paired=True`. An example is what `kind` says; images are float32 in [0, 1], [batch, height,
    width, channels]. Only arrays are range-checked; `tf.data` datasets are not. `fit` logs the means
    per example of `loss`, `bound`, `elbo`, `reconstruction` and `kl`, in nats. Validation scores the
    same bound on the same corruption, with the same noise in every epoch.

    Under a mixed-precision policy of Keras the networks' hidden layers compute in bfloat16 or float16,
    all distributions, densities and bounds in float32. Under mixed_float16 `compile` has Keras scale
    the loss; a step whose gradient overflows leaves everything but that scale as it was, and the
    next step has its random numbers.

    Every random number is a function of (seed, optimizer step): the same seed trains the same
    model, and a run that is resumed continues as if it had never stopped.

    Args:
        encoder: a Keras model from examples to a distribution over latents, [B, L] or a tuple.
        decoder: a Keras model from latents to a distribution over examples.
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
        prior: p(z), from `priors`; None takes the standard normal one.
        kind: of data, from `kinds`; None takes the kind that the encoder's input shape tells.
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
        prior: Prior | None = None,
        kind: Kind | None = None,
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
        for name, given, base in (("prior", prior, Prior), ("kind", kind, Kind)):
            if given is not None and not isinstance(given, base):
                raise TypeError(
                    f"`{name}` must be None or made from dvae_tf.{name}s. Received: {name}={given!r}."
                )
        bounds.check_cell(
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
        self.prior = StandardNormal(_latent_shape(decoder, latent_dim)) if prior is None else prior
        self.latent_dim = latents.size_of(self.prior.event_shape)
        self.kind = kind_of(encoder) if kind is None else kind
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
        x: Example,
        *,
        seed: tf.Tensor,
        corruption: corruptions.Corruption | None = None,
        noisy: Example | None = None,
    ) -> BoundTerms:
        """Evaluate the model's cell of the table on one batch.

        Args:
            x: clean examples, [B, ...].
            seed: int32 tensor of shape [2].
            corruption: p(x~|x); None takes the model's own.
            noisy: x~ itself, [B, ...], for paired data; nothing is then corrupted.
        """
        m, k = self.num_corruptions, self.num_samples
        corruption_seed, latent_seed = randomness.split(seed)
        # x~_m ~ p(x~|x)
        if noisy is None:
            corruption = self.corruption if corruption is None else corruption
            noisy = corruption(nests.repeat(x, m), seed=corruption_seed)  # [M B, ...]
        # q_m = q(z|x~_m)
        q = self.encoder(noisy)
        # z_km ~ q_m
        z = latents.draw(q, seed=latent_seed, num_samples=k)  # [K, M B, L]
        estimator = bounds.DoublyReparameterized()
        doubly = self.gradient == "doubly_reparameterized"
        if doubly:
            z = nests.merge_inner(estimator.path(nests.separate(z, m, axis=1)))
        # log p(x|z_km), of the clean x
        log_reconstruction = densities.log_reconstruction(self.decoder, z, x, copies=(k, m))
        reconstruction = tf.reduce_mean(log_reconstruction, axis=(0, 1))
        # KL(q_m || p(z))
        kl = nests.separate(densities.kl(q, self.prior, z), m)  # [M, B]
        elbo = bounds.analytic_elbo(log_reconstruction, kl)
        mean_kl = tf.reduce_mean(kl, axis=0)
        if self.objective == "elbo" and self.posterior == "conditional":
            objective = bounds.analytic_elbo(log_reconstruction, kl, kl_weight=self.kl_weight)
            return BoundTerms(objective, elbo, elbo, reconstruction, mean_kl)

        log_prior = nests.separate(self.prior.log_prob(z), m, axis=1)  # [K, M, B]
        if self.posterior == "mixture":
            log_posterior = bounds.mixture_log_density(densities.cross_log_posterior(q, z, m))
        else:
            log_density = q.log_prob(z) if not doubly else bounds.path_log_density(q.log_prob, z)
            log_posterior = nests.separate(log_density, m, axis=1)
        log_w = bounds.log_weights(log_reconstruction, log_prior, log_posterior)
        weighted = bounds.log_weights(
            log_reconstruction, log_prior, log_posterior, kl_weight=self.kl_weight
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
        """Train; as `keras.Model.fit`, but that arrays of clean examples are checked.

        Raises:
            ValueError: if they are not what the kind of data requires.
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
        """Validate; as `keras.Model.evaluate`, but that arrays of clean examples are checked.

        Raises:
            ValueError: if they are not what the kind of data requires.
        """
        self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def _check_arrays(self, x, y) -> None:
        """Look at values before the steps, whose graphs cannot."""
        clean = y if self.paired else x
        if isinstance(clean, np.ndarray | tf.Tensor):
            self.kind.check(clean, self._clean_model, clean=True)

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
            x = tf.nest.map_structure(
                lambda p: tf.cast(randomness.uniform(tf.shape(p), pixel_seed) < p, tf.float32), x
            )
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

    def _unpack(self, data) -> tuple[Example, Example | None]:
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
            return self._clean_examples(second), self._as_examples(first)
        return self._clean_examples(first), None

    def _as_examples(self, x) -> Example:
        return self.kind.as_examples(x, self.encoder)

    def _clean_examples(self, x) -> Example:
        return self.kind.as_examples(x, self._clean_model, clean=True)

    @property
    def _clean_model(self) -> keras.Model | None:
        """The model that clean examples must fit; in pairs, the encoder takes the noisy ones."""
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
        """Denoise: the mean of p(x|z) at the posterior mean of z. Draws and corrupts nothing."""
        return self.decoder(latents.mean(self.encoder(self._as_examples(noisy)))).mean()

    def build(self, input_shape=None):
        # Encoder and decoder build themselves; there is nothing else to make.
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def denoise(self, noisy, *, num_samples: int = 16, seed: int = 0) -> Denoised:
        """Denoise by averaging over the posterior.

        Args:
            noisy: [B, ...]; nothing is corrupted further.
            num_samples: S, latent samples for each example. 0 decodes the posterior mean, as `call`.
            seed: of the samples.

        Returns:
            mean: (1/S) sum_s E[x|z_s], z_s ~ q(z|x~).
            stddev: the square root of (1/S) sum_s Var[x|z_s] + Var_s E[x|z_s].
        """
        counts.check("num_samples", num_samples, 0)
        q = self.encoder(self._as_examples(noisy))
        if num_samples == 0:
            p = self.decoder(latents.mean(q))
            return Denoised(p.mean(), p.stddev())
        seed = randomness.fold_in(randomness.as_seed(seed), _DENOISING)
        z = latents.draw(q, seed=seed, num_samples=num_samples)  # [S, B, L]
        p = self.decoder(nests.merge(z))
        means = nests.separate(p.mean(), num_samples)  # [S, B, ...]
        variances = nests.separate(p.variance(), num_samples)

        def spread(variance, mean):
            return tf.sqrt(tf.reduce_mean(variance, 0) + tf.math.reduce_variance(mean, 0))

        return Denoised(
            tf.nest.map_structure(lambda mean: tf.reduce_mean(mean, 0), means),
            tf.nest.map_structure(spread, variances, means),
        )

    def sample(self, num_examples: int, *, seed: int = 0) -> Example:
        """Return the mean examples E[x|z] of `num_examples` latents z ~ p(z): [n, ...]."""
        counts.check("num_examples", num_examples, 0)
        seed = randomness.fold_in(randomness.as_seed(seed), _PRIOR)
        return self.decoder(self.prior.sample(num_examples, seed=seed)).mean()

    def elbo(self, x, *, num_samples: int = 1, seed: int = 0) -> tf.Tensor:
        """Return the ELBO of clean inputs, E_{q(z|x)}[log p(x|z)] - KL(q(z|x) || p(z)): [B], in nats.

        Args:
            x: clean examples, [B, ...].
            num_samples: K, latent samples for the reconstruction term, and for a KL term that has no
                closed form.
            seed: of the samples.
        """
        counts.check("num_samples", num_samples, 1)
        x = self._clean_examples(x)
        seed = randomness.fold_in(randomness.as_seed(seed), _SCORING)
        q = self.encoder(x)
        z = latents.draw(q, seed=seed, num_samples=num_samples)  # [K, B, L]
        log_reconstruction = densities.log_reconstruction(self.decoder, z, x, copies=(num_samples,))
        return tf.reduce_mean(log_reconstruction, 0) - densities.kl(q, self.prior, z)

    def log_likelihood(self, x, *, num_samples: int = 5000, seed: int = 0) -> np.ndarray:
        """Return log p(x) by importance sampling from q(z|x): [B], in nats; see `likelihood`."""
        x = self._clean_examples(x)
        estimate = importance_sampling(
            self.encoder,
            self.decoder,
            x,
            prior=self.prior,
            kind=self.kind,
            num_samples=num_samples,
            seed=seed,
        )
        return estimate.log_likelihood

    # ---- saving ----

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in _OBJECTS:
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
        for name in _OBJECTS:
            if name in config:  # version 0.1 wrote neither prior nor kind
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)


def _latent_shape(decoder, latent_dim: int | None) -> tuple:
    """Return the shape of a latent: as given, or as the decoder's input says."""
    if latent_dim is not None:
        return (latent_dim,)
    shape = latents.shape_of(decoder)
    if shape is None:
        raise ValueError(
            "`latent_dim` must be given when the decoder's input shape is not known as [B, L]. "
            f"Received: a decoder of input shape {getattr(decoder, 'input_shape', None)}."
        )
    return shape
