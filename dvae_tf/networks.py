"""Encoders and decoders: bodies of three kinds, ending in a layer of `layers`.

Each function returns `(encoder, decoder)`, two Functional models::

    encoder: image [B, H, W, C] -> q(z|x~), a distribution over latents [B, L]
    decoder: latent [B, L]      -> p(x|z), a distribution over images [B, H, W, C]

Hidden layers take Keras' dtype policy. The layer of parameters computes in float32 under every
policy: rounded to bfloat16, a location on the [0, 1] pixel scale would be off by half a grey level.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import scipy.special

from dvae_tf import counts, layers

Shape = tuple[int, int, int]

LIKELIHOODS: dict[str, type[layers.EventLayer]] = {
    "bernoulli": layers.IndependentBernoulli,
    "gaussian": layers.IndependentNormal,
    "discretized_logistic": layers.IndependentDiscretizedLogistic,
    "continuous_bernoulli": layers.IndependentContinuousBernoulli,
}


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Give the Keras layers made inside this policy, and leave the one of before behind."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable(package="dvae_tf")
def swish(x):
    """x sigmoid(x) = h + h tanh(h) with h = x / 2: Keras' own, in less time on a CPU."""
    h = 0.5 * x
    return h + h * keras.ops.tanh(h)


def mlp(
    image_shape: Shape,
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    hidden: Sequence[int] = (200, 200),
    activation: str = "softplus",
) -> tuple[keras.Model, keras.Model]:
    """Fully connected networks; 200-200 softplus is the one of Im et al. (2017).

    Args:
        image_shape: (height, width, channels).
        latent_dim: length L of the latent vector.
        likelihood: one of `LIKELIHOODS`.
        hidden: sizes of the encoder's hidden layers; the decoder's are these reversed.
        activation: name of a Keras activation.
    """
    _check(image_shape, latent_dim, likelihood, hidden, "hidden")
    activation = _activation(activation)

    def encode(image):
        h = keras.layers.Flatten()(image)
        for index, size in enumerate(hidden):
            h = keras.layers.Dense(size, activation, name=f"hidden_{index + 1}")(h)
        return h

    def decode(latent):
        h = latent
        for index, size in enumerate(reversed(hidden)):
            h = keras.layers.Dense(size, activation, name=f"hidden_{index + 1}")(h)
        size = LIKELIHOODS[likelihood].params_size(image_shape)
        return keras.layers.Dense(size, name="parameters", dtype="float32")(h)

    return _assemble(image_shape, latent_dim, likelihood, encode, decode)


def conv(
    image_shape: Shape,
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    activation: str = "relu",
) -> tuple[keras.Model, keras.Model]:
    """Strided convolutions down, transposed ones up, for images of any size.

    Args:
        image_shape, latent_dim, likelihood, activation: as for `mlp`.
        filters: channels of each level; every level halves height and width, rounding up. The
            decoder mirrors it and crops.
        hidden: width of the dense layer between the convolutions and the latent.
    """
    _check(image_shape, latent_dim, likelihood, filters, "filters")
    activation = _activation(activation)

    def down(h, channels):
        return keras.layers.Conv2D(channels, 3, 2, "same", activation=activation)(h)

    def up(h, channels):
        return keras.layers.Conv2DTranspose(channels, 3, 2, "same", activation=activation)(h)

    encode, decode = _pyramid(image_shape, likelihood, filters, hidden, activation, down, up)
    return _assemble(image_shape, latent_dim, likelihood, encode, decode)


def resnet(
    image_shape: Shape,
    latent_dim: int,
    likelihood: str = "bernoulli",
    *,
    filters: Sequence[int] = (32, 64),
    hidden: int = 256,
    activation: str = "swish",
) -> tuple[keras.Model, keras.Model]:
    """As `conv`, with a pre-activation residual block at each level.

    The last convolution of a block starts at zero, so that every block starts as the identity and
    no normalisation layer is needed: an example's result never depends on its neighbours.
    """
    _check(image_shape, latent_dim, likelihood, filters, "filters")
    activation = _activation(activation)

    def block(h):
        channels = h.shape[-1]
        r = keras.layers.Activation(activation)(h)
        r = keras.layers.Conv2D(channels, 3, padding="same", activation=activation)(r)
        r = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros")(r)
        return keras.layers.Add()([h, r])

    def down(h, channels):
        return block(keras.layers.Conv2D(channels, 3, 2, "same")(h))

    def up(h, channels):
        return block(keras.layers.Conv2DTranspose(channels, 3, 2, "same")(h))

    encode, decode = _pyramid(image_shape, likelihood, filters, hidden, activation, down, up)
    return _assemble(image_shape, latent_dim, likelihood, encode, decode)


NETWORKS: dict[str, Callable[..., tuple[keras.Model, keras.Model]]] = {
    "mlp": mlp,
    "conv": conv,
    "resnet": resnet,
}


def start_at_mean(decoder: keras.Model, mean_image: np.ndarray) -> None:
    """Set the output bias so that an untrained decoder's mean is about `mean_image`.

    Otherwise the mean brightness of the data is learned as a direction of the latent space, and
    latents on its far side decode to black. Burda et al. (2016), section 5, start like this too.

    Args:
        decoder: made by a function of this module.
        mean_image: [H, W, C] in [0, 1]; a convolutional decoder takes the mean of each channel.
    """
    layer, likelihood = decoder.get_layer("parameters"), decoder.get_layer("likelihood")
    if isinstance(likelihood, (layers.IndependentBernoulli, layers.IndependentContinuousBernoulli)):
        location = scipy.special.logit(np.clip(mean_image, 0.01, 0.99))
    else:
        location = mean_image
    bias = np.array(layer.bias)
    if isinstance(layer, keras.layers.Dense):
        bias[: location.size] = location.ravel()
    else:
        bias.reshape(location.shape[-1], -1)[:, 0] = location.mean(axis=(0, 1))
    layer.bias.assign(bias)


def _check(image_shape, latent_dim, likelihood, sizes, sizes_name) -> None:
    is_shape = isinstance(image_shape, (tuple, list)) and len(image_shape) == 3
    if not is_shape or not all(map(counts.is_count, image_shape)):
        raise ValueError(
            "`image_shape` must be (height, width, channels), all positive. "
            f"Received: image_shape={image_shape!r}."
        )
    counts.check("latent_dim", latent_dim)
    if not isinstance(likelihood, str) or likelihood not in LIKELIHOODS:
        raise ValueError(
            f"`likelihood` must be one of {', '.join(LIKELIHOODS)}. Received: {likelihood!r}."
        )
    if not isinstance(sizes, (tuple, list)) or not (sizes and all(map(counts.is_count, sizes))):
        raise ValueError(
            f"`{sizes_name}` must hold at least one positive integer. Received: {sizes!r}."
        )


def _activation(name: str):
    if name in ("swish", "silu"):
        return swish
    try:
        return keras.activations.get(name)
    except ValueError as error:
        raise ValueError(
            f"`activation` must be the name of a Keras activation, such as relu. Received: {name!r}."
        ) from error


def _assemble(image_shape, latent_dim, likelihood, encode, decode):
    """Close both bodies with their probabilistic layers."""
    posterior = layers.IndependentNormal
    image = keras.Input(image_shape, name="image")
    size = posterior.params_size(latent_dim)
    parameters = keras.layers.Dense(size, name="parameters", dtype="float32")(encode(image))
    q = posterior(latent_dim, name="posterior")(parameters)
    latent = keras.Input((latent_dim,), name="latent")
    p = LIKELIHOODS[likelihood](image_shape, name="likelihood")(decode(latent))
    return keras.Model(image, q, name="encoder"), keras.Model(latent, p, name="decoder")


def _pyramid(image_shape, likelihood, filters, hidden, activation, down, up):
    """Return the bodies of a convolutional encoder and its mirrored decoder."""
    height, width, channels = image_shape
    sizes = [(height, width)]
    for _ in filters:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    per_value = LIKELIHOODS[likelihood].params_size(1)

    def encode(image):
        h = image
        for number in filters:
            h = down(h, number)
        h = keras.layers.Flatten()(h)
        return keras.layers.Dense(hidden, activation, name="hidden")(h)

    def decode(latent):
        top = (*sizes[-1], filters[-1])
        h = keras.layers.Dense(hidden, activation, name="hidden")(latent)
        h = keras.layers.Dense(math.prod(top), activation)(h)
        h = keras.layers.Reshape(top)(h)
        for number, (rows, columns) in zip(reversed(filters), reversed(sizes[:-1]), strict=True):
            h = up(h, number)
            h = keras.layers.Cropping2D(((0, h.shape[1] - rows), (0, h.shape[2] - columns)))(h)
        h = keras.layers.Conv2D(
            channels * per_value, 3, padding="same", name="parameters", dtype="float32"
        )(h)
        # The likelihood layer takes all first parameters, then all second ones.
        h = keras.layers.Reshape((height, width, channels, per_value), dtype="float32")(h)
        h = keras.layers.Permute((4, 1, 2, 3), dtype="float32")(h)
        return keras.layers.Flatten(dtype="float32")(h)

    return encode, decode
