"""Occlusion by a rectangular block."""

import keras
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import CORRUPTIONS, Corruption


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class BlockOcclusion(Corruption):
    """Sets a block of the example's own aspect ratio to 0, at a uniformly drawn place.

    `level` is the fraction of the area that the block covers; its sides are rounded to whole
    pixels. Examples are [batch, height, width, channels].
    """

    name = "block"
    label = "Hidden block"
    effect = "blackens a rectangle"
    level_means = "fraction of the area occluded (by one block)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        batch, height, width = tf.unstack(tf.shape(x)[:3])
        position = randomness.uniform(tf.stack([2, batch, 1, 1, 1]), seed)

        def covered(size, position, axis_shape):
            size_f = tf.cast(size, tf.float32)
            side = tf.round(tf.sqrt(level) * size_f)
            start = tf.floor(position * (size_f - side + 1.0))
            pixel = tf.reshape(tf.range(size_f), axis_shape)
            return (pixel >= start) & (pixel < start + side)

        rows = covered(height, position[0], [1, -1, 1, 1])
        columns = covered(width, position[1], [1, 1, -1, 1])
        return tf.where(rows & columns, 0.0, x)
