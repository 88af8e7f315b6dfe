"""Masking noise."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS, Corruption


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Masking(Corruption):
    """Masking noise: each value is set to 0 with probability `level`."""

    name = "masking"
    label = "Missing pixels"
    effect = "sets values to 0"
    level_means = "fraction of pixels hit (set to 0)"
    level_is_fraction = True
    default_level = 0.25

    def corrupt(self, x, level, seed):
        return tf.where(randomness.uniform(tf.shape(x), seed) < level, 0.0, x)
