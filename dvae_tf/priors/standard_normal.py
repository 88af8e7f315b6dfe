"""The standard normal prior."""

import math

import keras
import numpy as np
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import latents, randomness
from dvae_tf.priors.prior import PRIORS, Prior


@PRIORS.register("standard_normal")
@keras.saving.register_keras_serializable(package="dvae_tf")
class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def log_prob(self, z):
        z = latents.alone(z)
        if not isinstance(z, (tuple, list)):
            return _standard_normal(self.event_shape).log_prob(z)
        # Maps of a hierarchy may have another size than `event_shape`.
        parts = zip(z, self.event_shape, strict=True)
        return tf.add_n([_log_density(part, len(shape)) for part, shape in parts])

    def sample(self, num_samples, *, seed):
        if not isinstance(self.event_shape[0], tuple):
            return randomness.normal([num_samples, *self.event_shape], seed)
        return tuple(
            randomness.normal([num_samples, *shape], randomness.fold_in(seed, index))
            for index, shape in enumerate(self.event_shape)
        )

    def kl(self, q):
        # TFP's closed forms need two distributions of the same type.
        if isinstance(q, tfd.MultivariateNormalTriL):
            prior = tfd.MultivariateNormalDiag(tf.zeros(q.event_shape))
        elif isinstance(q, tfd.Independent):
            prior = _standard_normal(q.event_shape)
        else:
            return None
        try:
            return tfd.kl_divergence(q, prior)
        except NotImplementedError:
            return None

    def kl_along(self, z):
        return tf.reduce_sum(z.kl, axis=-1)

    def kl_per_unit(self, mean, stddev):
        return (0.5 * (mean**2 + stddev**2 - 1) - np.log(stddev)).mean(axis=0)

    def quantile(self, probability):
        return scipy.stats.norm.ppf(probability)


def _log_density(z: tf.Tensor, rank: int) -> tf.Tensor:
    """Return log N(z; 0, I), summed over the last `rank` axes."""
    axes = tuple(range(-rank, 0))
    return tf.reduce_sum(-0.5 * tf.square(z) - 0.5 * math.log(2 * math.pi), axis=axes)


def _standard_normal(shape) -> tfd.Distribution:
    zeros = tf.zeros(shape)
    return tfd.Independent(tfd.Normal(zeros, 1.0), len(zeros.shape))
