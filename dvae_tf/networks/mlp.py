"""Fully connected networks."""

from collections.abc import Sequence

import keras

from dvae_tf import layers
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks.network import Models, activation_function, assemble, check, network


@network(sizes="hidden", hidden=(200, 200), activation="swish")
def mlp(
    example_shape: tuple[int, ...],
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    hidden: Sequence[int] = (200, 200),
    activation: str = "softplus",
    posterior: type[layers.EventLayer] = layers.IndependentNormal,
) -> Models:
    """Fully connected networks; the defaults are those of Im et al. (2017).

    Args:
        example_shape: shape of an example, of any rank, for example (height, width, channels).
        latent_dim: length L of the latent vector.
        likelihood: one of `likelihoods.LIKELIHOODS`.
        hidden: sizes of the encoder's hidden layers; the decoder reverses them.
        activation: name of a Keras activation.
        posterior: class of the layer that returns q(z|x~).

    Raises:
        ValueError: if an argument makes no network; the message says why.
    """
    check(example_shape, latent_dim, likelihood, hidden, "hidden")
    activation = activation_function(activation)

    def encode(example):
        h = keras.layers.Flatten(data_format="channels_last")(example)
        for index, size in enumerate(hidden):
            h = keras.layers.Dense(size, activation, name=f"hidden_{index + 1}")(h)
        return h

    def decode(latent):
        h = latent
        for index, size in enumerate(reversed(hidden)):
            h = keras.layers.Dense(size, activation, name=f"hidden_{index + 1}")(h)
        size = LIKELIHOODS[likelihood].layer.params_size(example_shape)
        return keras.layers.Dense(size, name="parameters", dtype="float32")(h)

    return assemble(example_shape, latent_dim, likelihood, encode, decode, posterior)
