"""The denoising variational auto-encoder: one model class for all cells of the table of bounds."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from dvae_tf import (
    bounds,
    corruptions,
    densities,
    fit_arguments,
    latents,
    nests,
    randomness,
)
from dvae_tf.generative_model import GenerativeModel
from dvae_tf.kinds import Kind, kind_of
from dvae_tf.kinds.kind import Example
from dvae_tf.priors import Prior, StandardNormal
from dvae_tf.running_means import RunningMeans

# Arguments that are serialised as Keras objects.
_OBJECTS = ("encoder", "decoder", "corruption", "test_corruption", "prior", "kind")


class BoundTerms(NamedTuple):
    """The bound and its terms for a batch: [B] each, in nats. Larger is better, except for `kl`.

    Attributes:
        objective: the quantity that training maximises: the bound with a weighted KL term.
        bound: the model's cell of the table of bounds.
        elbo: reconstruction - kl, whatever the objective.
        reconstruction: mean over k and m of log p(x|z_km).
        kl: mean over m of KL(q_m || p(z)).
    """

    objective: tf.Tensor
    bound: tf.Tensor
    elbo: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor


@keras.saving.register_keras_serializable(package="dvae_tf")
class DVAE(GenerativeModel):
    """A denoising VAE (Im, Ahn, Memisevic, Bengio, AAAI 2017, arXiv:1511.06406).

    Training corrupts a clean x to x~, encodes x~ to q(z|x~), decodes z to p(x|z), and scores the
    clean x:

        L_dvae = E_{p(x~|x)} E_{q(z|x~)} [ log p(x|z) + log p(z) - log q(z|x~) ].

    VAE, DVAE, IWAE and DIWAE are cells of one table (see `bounds`). Without a corruption the model
    is a VAE, and with `objective="iwae"` an IWAE.

    `fit` takes batches of x, or of (x, label) with a numeric label, which it ignores. With
    `paired=True` it takes batches of (noisy, clean). `kind` defines what an example is. Only arrays are
    range-checked; `tf.data` datasets are not. `fit` logs the means per example of `loss`, `bound`,
    `elbo`, `reconstruction` and `kl`, in nats. Validation computes the same bound, and by default
    uses the same corruption. Its noise is the same in every epoch.

    Layers that act only in training, such as Dropout and BatchNormalization, act in training steps
    alone. Validation, `call`, `predict` and every other method use their inference phase.

    Under a mixed-precision policy of Keras, hidden layers compute in bfloat16 or float16. All
    distributions, densities and bounds stay in float32. Under mixed_float16 Keras scales the loss.
    A step whose gradient overflows changes only that scale.

    Every random number of a training step is a function of (seed, number of the step), except those
    of the networks' own layers, whose generators are saved with the weights. So the same seed trains
    the same model, and a resumed run continues as if it had never stopped. Every call of
    `train_step` is a step, whether or not the optimizer counts it: it does not count each batch of
    an accumulated gradient, nor steps that loss scaling skips, and a new one starts from 0.

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
        test_corruption: the corruption for validation; None takes the one for training.
            `corruptions.Identity()` gives the bound for clean inputs.
        paired: whether batches are pairs (noisy, clean) with real noise. Then `corruption` must be
            None and `num_corruptions` 1.
        binarize: whether each training step draws binary values: 1 with the value as probability,
            else 0, as in Burda et al. (2016). Binary values stay unchanged.
        latent_dim: L; needed only if the decoder's input shape does not tell it.
        prior: p(z), from `priors`; None takes the standard normal.
        kind: kind of data, from `kinds`; None infers it from the encoder's input shape.
        seed: an integer from 0 to 2**62 - 1.

    Raises:
        TypeError: if `corruption`, `test_corruption`, `prior` or `kind` has the wrong type.
        ValueError: if another argument is out of range, or two arguments contradict each other.
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
        # From the model's policy Keras decides whether to scale the loss, for float16.
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
                "`paired` data bring their own noise. `corruption` must be None, and "
                "`num_corruptions` 1. "
                f"Received: corruption={corruption!r}, num_corruptions={num_corruptions}."
            )
        if paired and binarize:
            raise ValueError(
                "`binarize` must be False for `paired` data, because new clean values would no longer "
                "match the noisy ones. Received: paired=True, binarize=True. Binarise the data first."
            )
        if hasattr(decoder, "beside"):  # the halves of a ladder have weights in common
            decoder = decoder.beside(encoder)
        is_conditional = getattr(encoder, "is_conditional", False)
        if is_conditional and (posterior, num_corruptions) != ("conditional", 1):
            raise ValueError(
                "A conditional network must have posterior='conditional' and num_corruptions=1: each "
                "corruption has a p(x|x~) of its own. "
                f"Received: {posterior!r}, {num_corruptions}."
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
        randomness.as_seed(seed)  # raises if it is not a seed
        # A variable, so that callbacks can change it without retracing the step.
        self.kl_weight = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="kl_weight"
        )
        self._logged = RunningMeans(("loss", *BoundTerms._fields[1:]))
        self._record_shapes()

    # ---- the bound ----

    def bound_terms(
        self,
        x: Example,
        *,
        seed: tf.Tensor,
        corruption: corruptions.Corruption | None = None,
        noisy: Example | None = None,
        training: bool = False,
    ) -> BoundTerms:
        """Compute the model's bound and its terms for one batch.

        Args:
            x: clean examples, [B, ...].
            seed: int32 tensor of shape [2].
            corruption: p(x~|x); None takes the model's own.
            noisy: x~ itself, [B, ...], for paired data; `corruption` is then ignored.
            training: whether encoder and decoder are in their training phase.
        """
        m, k = self.num_corruptions, self.num_samples
        corruption_seed, latent_seed = randomness.split(seed)
        # x~_m ~ p(x~|x)
        if noisy is None:
            corruption = self.corruption if corruption is None else corruption
            noisy = corruption(nests.repeat(x, m), seed=corruption_seed)  # [M B, ...]
        # q_m = q(z|x~_m)
        if self.is_conditional:  # a bound on log p(x|x~): Sohn et al. (2015), equation 4
            q = self.encoder.recognize(x, noisy, training=training)  # q(z|x, x~)
        else:
            q = self.encoder(noisy, training=training)
        # z_km ~ q_m
        z = latents.draw_along(q, seed=latent_seed, num_samples=k)  # [K, M B, L]
        estimator = bounds.DoublyReparameterized()
        doubly = self.gradient == "doubly_reparameterized"
        if doubly:
            z = latents.alone(z)  # the weights must reach the encoder's gradient alone
            z = nests.merge_inner(estimator.path(nests.separate(z, m, axis=1)))
        # log p(x|z_km), of the clean x
        log_reconstruction = densities.log_reconstruction(
            self.decoder, z, x, copies=(k, m), training=training
        )
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
            log_q = bounds.path_log_density(q.log_prob, z) if doubly else latents.log_density(q, z)
            log_posterior = nests.separate(log_q, m, axis=1)
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

    def train_step(self, data):
        loss, terms, gradient = self.training_gradient(data)
        self.apply_gradient(gradient)
        return self._track(loss, terms)

    def training_gradient(self, data) -> tuple[tf.Tensor, BoundTerms, list[tf.Tensor]]:
        """Return the loss, the terms of the bound and the gradient of the next step.

        Under a distribution strategy the gradient is this replica's share of the mean's gradient.
        Loss scaling scales it.
        """
        x, noisy = self._unpack(data)
        step = self.training_steps
        seed = self._step_seed(randomness.Purpose.TRAINING, step)
        if self.binarize:
            # Drawn here, because a thread of the input pipeline would take a core from this step.
            pixel_seed = self._step_seed(randomness.Purpose.BINARIZATION, step)
            x = tf.nest.map_structure(
                lambda p: tf.cast(randomness.uniform(tf.shape(p), pixel_seed) < p, tf.float32), x
            )
        with tf.GradientTape() as tape:
            terms = self.bound_terms(x, seed=seed, noisy=noisy, training=True)
            loss = self._loss(terms)
            # Gradients are summed over replicas, so that each contributes its share of the mean.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            share = self.optimizer.scale_loss(share)
        return loss, terms, tape.gradient(share, self.trainable_variables)

    def test_step(self, data):
        x, noisy = self._unpack(data)
        # Batches are numbered by the examples counted so far in this evaluation.
        seed = self._step_seed(randomness.Purpose.VALIDATION, self._logged.count)
        terms = self.bound_terms(x, seed=seed, noisy=noisy, corruption=self.test_corruption)
        return self._track(self._loss(terms), terms)

    def _unpack(self, data) -> tuple[Example, Example | None]:
        """Return (clean, noisy) for paired batches, else (clean, None)."""
        clean, noisy = fit_arguments.unpack(data, self)
        return self._clean_examples(clean), None if noisy is None else self._as_examples(noisy)

    def _step_seed(self, purpose: int, step) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return randomness.fold_in(randomness.as_seed(self.seed), purpose, step, replica)

    def _loss(self, terms: BoundTerms) -> tf.Tensor:
        # A hidden layer's activity penalty has the dtype of the activations.
        penalties = (tf.cast(penalty, tf.float32) for penalty in self.losses)
        return tf.add_n([-tf.reduce_mean(terms.objective), *penalties])

    def _track(self, loss, terms: BoundTerms) -> dict[str, tf.Tensor]:
        means = (loss, *(tf.reduce_mean(term) for term in terms[1:]))
        self._logged.update_state(means, sample_weight=tf.shape(terms.bound)[0])
        logs = self._logged.result()
        if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            # Keras reduces the workers' results along the first axis.
            logs = {name: value[tf.newaxis] for name, value in logs.items()}
        return logs

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self._logged]

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
    """Return the shape of a latent, from `latent_dim` or from the decoder's input shape."""
    if latent_dim is not None:
        return (latent_dim,)
    shape = latents.shape_of(decoder)
    if shape is None:
        raise ValueError(
            "`latent_dim` must be given if the decoder's input shape is not known. "
            f"Received: a decoder of input shape {getattr(decoder, 'input_shape', None)}."
        )
    return shape
