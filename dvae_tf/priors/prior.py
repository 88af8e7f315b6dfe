"""The base class of priors, and their registry."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf.latents import Drawn
from dvae_tf.registry import Registry

PRIORS: Registry[type["Prior"]] = Registry("prior", "dvae_tf.priors")


class Prior(keras.layers.Layer):
    """A density p(z) over latents. As a Keras layer it can have weights that are trained and saved.

    A subclass defines `log_prob` and `sample`, and overrides the other methods if it knows closed
    forms. A latent is a tensor or a tuple of tensors; for a tuple, `event_shape` is a tuple of shapes.

    Args:
        event_shape: shape of one latent, for example (50,).

    Attributes:
        typical: lowest and highest value of a unit in latent traversals.
    """

    typical: ClassVar[tuple[float, float]] = (-3.0, 3.0)

    def __init__(self, event_shape, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.event_shape = _as_shape(event_shape)
        self.built = True

    def log_prob(self, z) -> tf.Tensor:
        """Return log p(z), in nats: ``[..., *event_shape] -> [...]``."""
        raise NotImplementedError

    def sample(self, num_samples: int, *, seed: tf.Tensor):
        """Draw latents, ``[num_samples, *event_shape]``, from the seed, an int32 tensor [2]."""
        raise NotImplementedError

    def kl(self, q: tfd.Distribution) -> tf.Tensor | None:
        """Return KL(q || p(z)), in nats, [B], or None without a closed form."""
        return None

    def kl_along(self, z: Drawn) -> tf.Tensor | None:
        """Return KL(q || p(z)) of a hierarchy given its draws, in nats, [K, N].

        The mean over draws is unbiased: each level's term is exact given the levels above it.
        Returns None if the prior has no closed form for the levels.
        """
        return None

    def kl_per_unit(self, mean: np.ndarray, stddev: np.ndarray) -> np.ndarray | None:
        """Return the KL term of each latent unit, averaged over the data, in nats: [N, L] -> [L].

        Args:
            mean, stddev: moments of posteriors with independent units, [N, L].

        Returns:
            [L], or None without a closed form.
        """
        return None

    def quantile(self, probability: np.ndarray) -> np.ndarray | None:
        """Return quantiles of one unit, or None unless all units are independent and alike."""
        return None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"event_shape": self.event_shape}


def _as_shape(shape) -> tuple:
    if isinstance(shape, int):
        return (shape,)
    return tuple(_as_shape(s) if isinstance(s, (tuple, list)) else int(s) for s in shape)
