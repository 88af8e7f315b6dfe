"""Residual networks."""

from collections.abc import Sequence

import keras

from dvae_tf import layers
from dvae_tf.networks.network import Models, activation_function, assemble, check, network
from dvae_tf.networks.pyramid import convolution, pyramid, transposed_convolution


@network(sizes="filters", hidden=(32, 64), activation="swish")
def resnet(
    example_shape: tuple[int, ...],
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    activation: str = "swish",
    posterior: type[layers.EventLayer] = layers.IndependentNormal,
) -> Models:
    """The network of `conv` with a pre-activation residual block at each level.

    The last convolution of each block starts at zero, so that the block starts as the identity. So
    no normalisation layer is needed, and the result for an example never depends on its neighbours
    in the batch. The arguments are those of `conv`.
    """
    check(example_shape, latent_dim, likelihood, filters, "filters", rank=3)
    activation = activation_function(activation)

    def block(h):
        channels = h.shape[-1]
        r = keras.layers.Activation(activation)(h)
        r = convolution(channels, 3, activation=activation)(r)
        r = convolution(channels, 3, kernel_initializer="zeros")(r)
        return keras.layers.Add()([h, r])

    def down(h, channels):
        return block(convolution(channels, 3, strides=2)(h))

    def up(h, channels):
        return block(transposed_convolution(channels, 3, strides=2)(h))

    encode, decode = pyramid(example_shape, likelihood, filters, hidden, activation, down, up)
    return assemble(example_shape, latent_dim, likelihood, encode, decode, posterior)
