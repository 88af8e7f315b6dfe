"""Salt-and-pepper noise: the usual definition, and the variant in the code of Im et al. (2017)."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS, Corruption


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class SaltPepper(Corruption):
    """Impulse noise: each value is hit with probability `level`, and becomes 0 or 1 at even odds."""

    name = "salt_pepper"
    label = "Salt and pepper"
    effect = "sets pixels to black or white, equally likely"
    level_means = "fraction of pixels hit (salt and pepper equally likely)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        u = randomness.uniform(tf.shape(x), seed)
        return tf.where(u < 0.5 * level, 0.0, tf.where(u < level, 1.0, x))


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class AuthorsSaltPepper(Corruption):
    """The impulse noise in the code of Im et al. (2017), to reproduce their results only.

    Each value is hit with probability `level`. A hit value becomes 1 with probability `level`, not
    1/2, and 0 otherwise. At small levels this is nearly masking. Source: jiwoongim/DVAE, utils.py.
    """

    name = "authors_salt_pepper"
    effect = (
        "the noise of the paper's own code: "
        "a hit pixel turns white with a probability equal to the level, else black"
    )
    level_means = "fraction of pixels hit (salt with that same probability, else pepper)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        u = randomness.uniform(tf.shape(x), seed)
        return tf.where(u < level * level, 1.0, tf.where(u < level, 0.0, x))
