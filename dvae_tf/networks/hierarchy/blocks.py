"""Residual blocks of maps of any size."""

from typing import Any

import keras

from dvae_tf.networks.pyramid import convolution


@keras.saving.register_keras_serializable(package="dvae_tf")
class ResidualBlocks(keras.layers.Layer):
    """Pre-activation residual blocks, h + conv(a(conv(a(h)))), each of which starts as the identity.

    Args:
        width: channels of the maps.
        num_blocks: number of blocks.
        activation: a Keras activation.
    """

    def __init__(self, width: int, num_blocks: int, activation: Any, **kwargs):
        super().__init__(**kwargs)
        self.width, self.num_blocks = width, num_blocks
        self.activation = keras.activations.get(activation)
        self.inner = [convolution(width, 3) for _ in range(num_blocks)]
        self.outer = [convolution(width, 3, kernel_initializer="zeros") for _ in range(num_blocks)]

    def build(self, input_shape):
        for layer in (*self.inner, *self.outer):
            layer.build(input_shape)
        self.built = True

    def call(self, h):
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(self.activation(inner(self.activation(h))))
        return h

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "width": self.width,
            "num_blocks": self.num_blocks,
            "activation": keras.activations.serialize(self.activation),
        }
