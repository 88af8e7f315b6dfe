"""Convolutional networks."""

from collections.abc import Sequence

from dvae_tf import layers
from dvae_tf.networks.network import Models, activation_function, assemble, check, network
from dvae_tf.networks.pyramid import convolution, pyramid, transposed_convolution


@network(sizes="filters", hidden=(32, 64), activation="relu")
def conv(
    example_shape: tuple[int, ...],
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    activation: str = "relu",
    posterior: type[layers.EventLayer] = layers.IndependentNormal,
) -> Models:
    """Strided convolutions down and transposed convolutions up, for examples of any size.

    Args:
        example_shape: (height, width, channels).
        latent_dim, likelihood, activation, posterior: as for `mlp`.
        filters: channels of each level. Every level halves height and width, rounding up; the
            decoder doubles them again, and crops.
        hidden: width of the dense layer between the convolutions and the latent.

    Raises:
        ValueError: if an argument makes no network; the message says why.
    """
    check(example_shape, latent_dim, likelihood, filters, "filters", rank=3)
    activation = activation_function(activation)

    def down(h, channels):
        return convolution(channels, 3, strides=2, activation=activation)(h)

    def up(h, channels):
        return transposed_convolution(channels, 3, strides=2, activation=activation)(h)

    encode, decode = pyramid(example_shape, likelihood, filters, hidden, activation, down, up)
    return assemble(example_shape, latent_dim, likelihood, encode, decode, posterior)
