"""What all networks share: dtype policies, checks, and the probabilistic layers at their ends."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from dvae_tf import counts, layers
from dvae_tf.likelihoods import LIKELIHOODS, likelihood_of
from dvae_tf.registry import Registry

Models = tuple[keras.Model, keras.Model]


@dataclass(frozen=True)
class Network:
    """An entry of `NETWORKS`: a function that returns (encoder, decoder), and options for it.

    Attributes:
        build: the function.
        sizes: name of its argument for sizes of hidden layers: "hidden" or "filters".
        defaults: options of train.py, `hidden` and `activation`, for those a user leaves out.
    """

    build: Callable[..., Models]
    sizes: str
    defaults: Mapping[str, Any]

    def __call__(self, *args, **kwargs) -> Models:
        return self.build(*args, **kwargs)


NETWORKS: Registry[Network] = Registry("network", "dvae_tf.networks")


def network(*, sizes: str, hidden: tuple[int, ...], activation: str):
    """Register a function that builds networks, under its own name; a decorator.

    Args:
        sizes: name of its argument for sizes of hidden layers.
        hidden, activation: what train.py takes by default.
    """

    def register(build: Callable[..., Models]) -> Callable[..., Models]:
        defaults = {"hidden": hidden, "activation": activation}
        NETWORKS.register(build.__name__)(Network(build, sizes, defaults))
        return build

    return register


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


def start_at_mean(decoder: keras.Model, mean: np.ndarray) -> None:
    """Set the output bias so that an untrained decoder's mean is about `mean`.

    Otherwise the mean brightness of the data is learned as a direction of the latent space, and
    latents on its far side decode to black. Burda et al. (2016), section 5, start like this too.

    Args:
        decoder: made by a function of this module.
        mean: of the training examples, without the batch; a convolutional decoder takes the mean of
            each channel, the last axis.
    """
    layer = decoder.get_layer("parameters")
    location = likelihood_of(decoder.get_layer("likelihood")).location(mean)
    bias = np.array(layer.bias)
    if isinstance(layer, keras.layers.Dense):
        bias[: location.size] = location.ravel()
    else:
        channels = location.reshape(-1, location.shape[-1])
        bias.reshape(channels.shape[-1], -1)[:, 0] = channels.mean(axis=0)
    layer.bias.assign(bias)


def check(
    shape: tuple[int, ...], latent_dim: int, likelihood: str, sizes, sizes_name: str, rank: int = 0
) -> None:
    """Refuse arguments that make no network.

    Args:
        rank: that the shape must have; 0 for any.

    Raises:
        ValueError: in one line.
    """
    is_shape = isinstance(shape, (tuple, list)) and len(shape) > 0 and rank in (0, len(shape))
    if not is_shape or not all(map(counts.is_count, shape)):
        required = "(height, width, channels)" if rank == 3 else "the shape of an example"
        raise ValueError(
            f"`example_shape` must be {required}, all positive. Received: example_shape={shape!r}."
        )
    counts.check("latent_dim", latent_dim)
    LIKELIHOODS.choose(likelihood)
    if not isinstance(sizes, (tuple, list)) or not (sizes and all(map(counts.is_count, sizes))):
        raise ValueError(
            f"`{sizes_name}` must hold at least one positive integer. Received: {sizes!r}."
        )


def activation_function(name: str):
    if name in ("swish", "silu"):
        return swish
    try:
        return keras.activations.get(name)
    except ValueError as error:
        raise ValueError(
            f"`activation` must be the name of a Keras activation, such as relu. Received: {name!r}."
        ) from error


def assemble(
    example_shape: tuple[int, ...],
    latent_dim: int,
    likelihood: str,
    encode: Callable,
    decode: Callable,
    posterior: type[layers.EventLayer],
) -> Models:
    """Close both bodies with their probabilistic layers.

    Args:
        encode, decode: from a symbolic example to hidden units; from a symbolic latent to the
            parameters of the likelihood.
        posterior: layer of the distribution over latent vectors.
    """
    example = keras.Input(example_shape, name="image" if len(example_shape) == 3 else "example")
    size = posterior.params_size(latent_dim)
    parameters = keras.layers.Dense(size, name="parameters", dtype="float32")(encode(example))
    q = posterior(latent_dim, name="posterior")(parameters)
    latent = keras.Input((latent_dim,), name="latent")
    p = LIKELIHOODS[likelihood].layer(example_shape, name="likelihood")(decode(latent))
    return keras.Model(example, q, name="encoder"), keras.Model(latent, p, name="decoder")
