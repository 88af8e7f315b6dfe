"""Gaussian noise of one strength."""

import math

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.observations.observation import OBSERVATIONS, Observation, finite


@OBSERVATIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf.observations")
class Gaussian(Observation):
    """Additive white noise: y ~ N(s, sigma^2).

    Args:
        sigma: standard deviation of the noise, on the scale of the images; positive.

    Raises:
        TypeError: if `sigma` is not a number.
        ValueError: if it is not positive and finite.
    """

    name = "gaussian"
    effect = "adds Gaussian noise of one strength"
    parameters = ("sigma",)

    def __init__(self, sigma: float):
        self.sigma = finite(
            "sigma", sigma, "It is the noise's standard deviation, such as 0.1.", above=0.0
        )

    def log_prob(self, y, s):
        return -0.5 * tf.square((y - s) / self.sigma) - math.log(self.sigma * math.sqrt(math.tau))

    def variance(self, s):
        return tf.fill(tf.shape(s), self.sigma**2)

    def sample(self, s, seed):
        return s + self.sigma * randomness.normal(tf.shape(s), seed)
