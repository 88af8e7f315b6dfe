"""The way up of a ladder, from images to features of every level."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from dvae_tf.networks.hierarchy.blocks import ResidualBlocks
from dvae_tf.networks.pyramid import convolution


@keras.saving.register_keras_serializable(package="dvae_tf")
class WayUp(keras.layers.Layer):
    """Images [B, H, W, C], H and W multiples of 2**L -> d_1 to d_L, [B, H / 2**l, W / 2**l, f_l].

    Args:
        channels: C.
        filters: f_1 to f_L.
        num_blocks: residual blocks of each level.
        activation: a Keras activation.
    """

    def __init__(
        self, channels: int, filters: Sequence[int], num_blocks: int, activation: Any, **kwargs
    ):
        super().__init__(**kwargs)
        self.channels, self.filters = channels, tuple(filters)
        self.reading = convolution(self.filters[0], 3, name="reading")
        self.strides = [convolution(width, 3, strides=2) for width in self.filters[1:]]
        self.blocks = [ResidualBlocks(width, num_blocks, activation) for width in self.filters]

    def build(self, input_shape=None):
        self.reading.build((None, None, None, 4 * self.channels))
        for level, width in enumerate(self.filters):
            self.blocks[level].build((None, None, None, width))
            if level:
                self.strides[level - 1].build((None, None, None, self.filters[level - 1]))
        self.built = True

    def call(self, images, training=False):
        h = self.reading(tf.nn.space_to_depth(images, 2))
        found = []
        for level, blocks in enumerate(self.blocks):
            if level:
                h = self.strides[level - 1](h)
            h = blocks(h, training=training)
            found.append(h)
        return tuple(found)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return tuple(
            (batch, height and height >> level, width and width >> level, f)
            for level, f in enumerate(self.filters, start=1)
        )
