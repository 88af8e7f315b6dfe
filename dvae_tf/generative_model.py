"""What a model p(x|z) p(z) with an encoder is used for: denoising, drawing and scoring."""

import functools

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import counts, denoised, densities, latents, randomness
from dvae_tf.denoised import Denoised, HierarchyDenoiser, moments
from dvae_tf.evidence import importance_sampling
from dvae_tf.keras_model import KerasModel
from dvae_tf.kinds import Kind
from dvae_tf.kinds.kind import Example
from dvae_tf.priors import Prior


class GenerativeModel(KerasModel):
    """Base class of `DVAE`: its use. `DVAE` adds the bound and how it is trained.

    Attributes:
        encoder, decoder, prior, kind, paired: arguments of `DVAE`.
    """

    encoder: keras.Model
    decoder: keras.Model
    prior: Prior
    kind: Kind
    paired: bool

    def call(self, noisy):
        """Denoise: return the mean of p(x|z) at the posterior mean of z. Nothing is random.

        A hierarchy has no such mean in closed form: it averages over eight draws that never change.
        """
        if self._is_hierarchy:
            mean, _ = self._hierarchy.fixed_in_graph(self._as_examples(noisy))
            return mean
        return self._decode(latents.mean_along(self._encode(noisy))).mean()

    def _encode(self, noisy):
        return self.encoder(self._as_examples(noisy), training=False)

    def _decode(self, z):
        return self.decoder(z, training=False)

    def compute_output_shape(self, input_shape):
        return input_shape

    def denoise(
        self, noisy, *, num_samples: int = 16, seed: int = 0, origin: tuple[int, int] | None = None
    ) -> Denoised:
        """Denoise by averaging over the posterior.

        Args:
            noisy: noisy examples, [B, ...]; they are not corrupted further.
            num_samples: S, latent samples for each example. 0 decodes the posterior mean, as `call`.
            seed: seed of the samples.
            origin: row and column of the first pixel, if `noisy` is a window of a larger picture, so
                that it gets the picture's random numbers; for models of images of any size.

        Returns:
            mean: (1/S) sum_s E[x|z_s], z_s ~ q(z|x~).
            stddev: sqrt((1/S) sum_s Var[x|z_s] + Var_s E[x|z_s]).
        """
        counts.check("num_samples", num_samples, 0)
        noisy = self._as_examples(noisy)
        if num_samples == 0:
            q = self.encoder(noisy, training=False)
            p = self._decode(latents.mean_along(q))
            found = moments(p)
            return Denoised(found.mean, tf.nest.map_structure(tf.sqrt, found.variance))
        seed = randomness.fold_in(randomness.as_seed(seed), randomness.Purpose.DENOISING)
        if self._is_hierarchy:
            return self._hierarchy.average(noisy, num_samples, seed, origin)
        q = self.encoder(noisy, training=False)
        return denoised.average(self.decoder, q, num_samples, seed)

    def draws(self, noisy, num_draws: int, *, seed: int = 0, origin=None) -> Example:
        """Return posterior draws of the clean example, x_s ~ p(x|z_s) with z_s ~ q(z|x~).

        A model of noisy examples (see `observations`) returns signals s(z_s).

        Args:
            noisy: noisy examples, [B, ...].
            num_draws: S.
            seed: seed of the draws.
            origin: as in `denoise`.

        Returns:
            [S, B, ...]
        """
        counts.check("num_draws", num_draws, 1)
        noisy = self._as_examples(noisy)
        seed = randomness.fold_in(randomness.as_seed(seed), randomness.Purpose.DENOISING)
        if self._is_hierarchy:
            return self._hierarchy.draws(noisy, num_draws, seed, origin)
        return denoised.draws(self.decoder, self.encoder(noisy, training=False), num_draws, seed)

    @property
    def is_conditional(self) -> bool:
        """Whether this is a model p(x|x~) with a prior p(z|x~), as `networks.ladder` can make it."""
        return getattr(self.encoder, "is_conditional", False)

    @property
    def observation(self):
        """The observation p(y|s) of a model of noisy examples, which scores these; else None."""
        return getattr(getattr(self.decoder, "likelihood", None), "observation", None)

    @property
    def _is_hierarchy(self) -> bool:
        return hasattr(self.decoder, "beside")

    @functools.cached_property
    def _hierarchy(self) -> HierarchyDenoiser:
        return HierarchyDenoiser(self.encoder, self.decoder)

    def sample(self, num_examples: int, *, seed: int = 0) -> Example:
        """Return the mean examples E[x|z] for `num_examples` latents z ~ p(z): [n, ...]."""
        counts.check("num_examples", num_examples, 0)
        self._require_marginal("sample")
        seed = randomness.fold_in(randomness.as_seed(seed), randomness.Purpose.PRIOR)
        return self._decode(self.prior.sample(num_examples, seed=seed)).mean()

    def elbo(self, x, *, num_samples: int = 1, seed: int = 0) -> tf.Tensor:
        """Return the ELBO of clean inputs, E_{q(z|x)}[log p(x|z)] - KL(q(z|x) || p(z)): [B], in nats.

        Args:
            x: clean examples, [B, ...].
            num_samples: K, latent samples for the reconstruction term, and for a KL term without a
                closed form.
            seed: seed of the samples.
        """
        counts.check("num_samples", num_samples, 1)
        self._require_marginal("elbo")
        x = self._clean_examples(x)
        seed = randomness.fold_in(randomness.as_seed(seed), randomness.Purpose.SCORING)
        q = self.encoder(x, training=False)
        z = latents.draw_along(q, seed=seed, num_samples=num_samples)  # [K, B, L]
        log_reconstruction = densities.log_reconstruction(self.decoder, z, x, copies=(num_samples,))
        return tf.reduce_mean(log_reconstruction, 0) - densities.kl(q, self.prior, z)

    def log_likelihood(self, x, *, num_samples: int = 5000, seed: int = 0) -> np.ndarray:
        """Return log p(x) by importance sampling from q(z|x): [B], in nats; see `likelihood`."""
        self._require_marginal("log_likelihood")
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

    def _require_marginal(self, method: str) -> None:
        if self.is_conditional:
            raise ValueError(
                f"`{method}` needs a model of p(x). Received: a conditional model, p(x|x~). Train one "
                "with conditional=False, or use `denoise` and `draws`."
            )

    def _as_examples(self, x) -> Example:
        return self.kind.as_examples(x, self.encoder)

    def _clean_examples(self, x) -> Example:
        return self.kind.as_examples(x, self._clean_model, clean=self.observation is None)

    @property
    def _clean_model(self) -> keras.Model | None:
        """The model whose input shape clean examples must have; None in pairs, where noisy ones do."""
        return None if self.paired else self.encoder
