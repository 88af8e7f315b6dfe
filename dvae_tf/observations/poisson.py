"""Photon noise alone."""

import math

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.observations.observation import OBSERVATIONS, Observation, finite

# The smallest rate of a density, in photons: a black pixel costs 0.01 nats, and gradients are finite.
_RATE_FLOOR = 0.01


@OBSERVATIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf.observations")
class Poisson(Observation):
    """Photon counts: y = gain n, n ~ Poisson(s / gain).

    The density is the probability of n, continued to real counts:

        log p(y|s) = n log r - r - log Gamma(n + 1) - log gain,   n = max(y, 0) / gain,

    with the rate r = s / gain. Negative values cannot be seen, and count as no photons; for images
    with an offset or read noise take PoissonGaussian. Rates below 0.01 photons have the density of
    r = 0.01, less a line whose slope is that of the density there if this is positive. So gradients
    lead back to positive signals, and no probability exceeds 1.

    Args:
        gain: the value of one photon, on the scale of the images; positive.

    Raises:
        TypeError: if `gain` is not a number.
        ValueError: if it is not positive and finite.
    """

    name = "poisson"
    effect = "counts photons: a value s is s / gain photons on average"
    parameters = ("gain",)

    def __init__(self, gain: float):
        self.gain = finite("gain", gain, "It is the value of one photon, such as 0.01.", above=0.0)

    def log_prob(self, y, s):
        n = tf.maximum(y, 0.0) / self.gain
        rate = tf.maximum(s / self.gain, _RATE_FLOOR)
        slope = tf.maximum(n / _RATE_FLOOR - 1.0, 0.0)
        below = slope * tf.minimum(s / self.gain - _RATE_FLOOR, 0.0)
        return _log_mass(n, rate) + below - math.log(self.gain)

    def variance(self, s):
        return self.gain * tf.maximum(s, 0.0)

    def sample(self, s, seed):
        return self.gain * randomness.poisson(tf.maximum(s, 0.0) / self.gain, seed)


def _log_mass(n: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
    """Return n log r - r - log Gamma(n + 1) without cancellation at large counts.

    From 8 photons on it is -n (u - log(1 + u)) - log(2 pi n) / 2 - delta(n), u = (r - n) / n, with
    Stirling's series for delta. Source: Loader (2000), "Fast and accurate computation of binomial
    probabilities".
    """
    is_large = n >= 8.0
    few = tf.where(is_large, 0.0, n)
    direct = few * tf.math.log(rate) - rate - tf.math.lgamma(few + 1.0)
    many = tf.where(is_large, n, 8.0)
    u = (rate - many) / many
    delta = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * many**2)) / many**2) / many
    saddle = -many * (u - tf.math.log1p(u)) - 0.5 * tf.math.log(math.tau * many) - delta
    return tf.where(is_large, saddle, direct)
