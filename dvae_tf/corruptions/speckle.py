"""Multiplicative Gaussian noise."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS
from dvae_tf.corruptions.standard_deviation import StandardDeviation


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Speckle(StandardDeviation):
    """Multiplicative noise: x~ = x * (1 + level * eps), eps ~ N(0, 1)."""

    name = "speckle"
    label = "Speckle"
    effect = "multiplies each value by 1 plus Gaussian noise"
    level_means = "standard deviation (of the noise on a pixel of value 1)"

    def corrupt(self, x, level, seed):
        return x * (1.0 + level * randomness.normal(tf.shape(x), seed))
