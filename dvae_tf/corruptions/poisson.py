"""Photon noise."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS
from dvae_tf.corruptions.standard_deviation import StandardDeviation


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Poisson(StandardDeviation):
    """Photon noise: x~ = level**2 * n, n ~ Poisson(x / level**2).

    The noisy value has mean x and standard deviation level * sqrt(x). The value 1 stands for
    1 / level**2 photons on average. Negative values count as 0. Levels below 0.001 corrupt nothing.
    """

    name = "poisson"
    label = "Poisson (photon counts)"
    effect = "draws photon counts: a white pixel counts 1 / level² photons"
    level_means = "standard deviation (of the noise on a pixel of value 1)"

    def corrupt(self, x, level, seed):
        # Far below this level float32 could not hold the counts; the noise is invisible anyway.
        is_zero = level < 1e-3
        photon = tf.square(tf.where(is_zero, 1.0, level))
        is_finite = tf.math.is_finite(x)
        noisy = photon * randomness.poisson(tf.where(is_finite, x, 0.0) / photon, seed)
        return tf.where(is_zero | ~is_finite, x, noisy)
