"""The registry of networks, and their common parts: checks, policies and probabilistic layers."""

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
    """An entry of `NETWORKS`: a function that returns (encoder, decoder), and its default options.

    Attributes:
        build: the function.
        sizes: the argument for sizes of hidden layers: "hidden" or "filters".
        defaults: defaults of train.py for `hidden`, `activation` and others.
        takes: further arguments of the function that options of a run may set.
        warms_up: whether the weight of the KL term rises at first, unless an option says otherwise.
    """

    build: Callable[..., Models]
    sizes: str
    defaults: Mapping[str, Any]
    takes: tuple[str, ...] = ()
    warms_up: bool = False

    def __call__(self, *args, **kwargs) -> Models:
        return self.build(*args, **kwargs)


NETWORKS: Registry[Network] = Registry("network", "dvae_tf.networks")


def network(
    *,
    sizes: str,
    hidden: tuple[int, ...],
    activation: str,
    takes: tuple[str, ...] = (),
    warms_up: bool = False,
    **others,
):
    """Decorate a function that builds networks, to register it under its own name.

    Args:
        sizes: the argument of the function for sizes of hidden layers.
        hidden, activation, others: defaults of train.py.
        takes, warms_up: see `Network`.
    """

    def register(build: Callable[..., Models]) -> Callable[..., Models]:
        defaults = {"hidden": hidden, "activation": activation} | others
        NETWORKS.register(build.__name__)(Network(build, sizes, defaults, takes, warms_up))
        return build

    return register


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras' dtype policy inside the block, and restore the previous one afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable(package="dvae_tf")
def swish(x):
    """Return x sigmoid(x), computed as h + h tanh(h) with h = x / 2, which is faster on a CPU."""
    h = 0.5 * x
    return h + h * keras.ops.tanh(h)


def start_at_mean(decoder: keras.Model, mean: np.ndarray) -> None:
    """Set the output bias so that an untrained decoder returns about the mean of the data.

    Otherwise a direction of the latent space would have to learn the mean, and latents on its far
    side would decode to zeros. Source: Burda et al. (2016), section 5.

    Args:
        decoder: a decoder from one of the `networks`.
        mean: mean of the training examples, without the batch. A convolutional decoder uses the
            mean of each channel (the last axis).
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
        shape: shape of an example.
        latent_dim: length of the latent vector.
        likelihood: name of the likelihood.
        sizes: sizes of hidden layers.
        sizes_name: name of the argument `sizes`, for messages.
        rank: required rank of `shape`; 0 allows any.

    Raises:
        ValueError: if an argument is out of range; the message is one line.
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
    """Build encoder and decoder from their bodies and the probabilistic layers at their ends.

    Args:
        example_shape, latent_dim, likelihood: as for `mlp`.
        encode: a function from a symbolic example to hidden units.
        decode: a function from a symbolic latent to the parameters of the likelihood.
        posterior: class of the layer that returns q(z|x~).
    """
    example = keras.Input(example_shape, name="image" if len(example_shape) == 3 else "example")
    size = posterior.params_size(latent_dim)
    parameters = keras.layers.Dense(size, name="parameters", dtype="float32")(encode(example))
    q = posterior(latent_dim, name="posterior")(parameters)
    latent = keras.Input((latent_dim,), name="latent")
    p = LIKELIHOODS[likelihood].layer(example_shape, name="likelihood")(decode(latent))
    return keras.Model(example, q, name="encoder"), keras.Model(latent, p, name="decoder")
