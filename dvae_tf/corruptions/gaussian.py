"""Additive Gaussian noise."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS
from dvae_tf.corruptions.standard_deviation import StandardDeviation


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Gaussian(StandardDeviation):
    """Additive white noise: x~ = x + level * eps, eps ~ N(0, 1)."""

    name = "gaussian"
    label = "Gaussian"
    effect = "adds Gaussian noise to each value"
    level_means = "standard deviation (on the [0, 1] pixel scale)"

    def corrupt(self, x, level, seed):
        return x + level * randomness.normal(tf.shape(x), seed)
