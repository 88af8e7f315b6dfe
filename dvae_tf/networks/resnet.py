"""Residual networks."""

from collections.abc import Sequence

import keras

from dvae_tf import layers
from dvae_tf.networks.network import Models, activation_function, assemble, check, network
from dvae_tf.networks.pyramid import pyramid


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
        r = keras.layers.Conv2D(
            channels, 3, 1, "same", data_format="channels_last", activation=activation
        )(r)
        r = keras.layers.Conv2D(
            channels, 3, 1, "same", data_format="channels_last", kernel_initializer="zeros"
        )(r)
        return keras.layers.Add()([h, r])

    def down(h, channels):
        return block(keras.layers.Conv2D(channels, 3, 2, "same", data_format="channels_last")(h))

    def up(h, channels):
        return block(
            keras.layers.Conv2DTranspose(channels, 3, 2, "same", data_format="channels_last")(h)
        )

    encode, decode = pyramid(example_shape, likelihood, filters, hidden, activation, down, up)
    return assemble(example_shape, latent_dim, likelihood, encode, decode, posterior)
