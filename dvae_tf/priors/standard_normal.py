"""The standard normal prior."""

import keras
import numpy as np
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import randomness
from dvae_tf.priors.prior import PRIORS, Prior


@PRIORS.register("standard_normal")
@keras.saving.register_keras_serializable(package="dvae_tf")
class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def log_prob(self, z):
        if not isinstance(z, (tuple, list)):
            return _standard_normal(self.event_shape).log_prob(z)
        parts = zip(z, self.event_shape, strict=True)
        return tf.add_n([_standard_normal(shape).log_prob(part) for part, shape in parts])

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

    def kl_per_unit(self, mean, stddev):
        return (0.5 * (mean**2 + stddev**2 - 1) - np.log(stddev)).mean(axis=0)

    def quantile(self, probability):
        return scipy.stats.norm.ppf(probability)


def _standard_normal(shape) -> tfd.Distribution:
    zeros = tf.zeros(shape)
    return tfd.Independent(tfd.Normal(zeros, 1.0), len(zeros.shape))
