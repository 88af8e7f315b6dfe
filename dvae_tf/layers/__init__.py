"""Keras 3 layers that turn a tensor of parameters into a distribution.

    encoder = keras.Sequential([..., Dense(IndependentNormal.params_size(50)), IndependentNormal(50)])
    q = encoder(x)                          # a tfd.Distribution: q.mean(), q.log_prob(z), ...

Symbolically such a layer is a tensor of the shape of one sample, so that it sits in Sequential and
Functional models. Keras passes distributions between layers by keyword only:
`Sample()(distribution=encoder.output)`. Parameters are cast to float32 whatever the mixed-precision
policy, since log densities lose their meaning in half precision.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from dvae_tf import randomness
from dvae_tf.layers.discretized_logistic import DiscretizedLogistic

register = keras.saving.register_keras_serializable(package="dvae_tf")

# The smallest scale of any distribution made here. On the [0, 1] pixel scale it is about the
# standard deviation of rounding to 8 bits, 1 / (255 sqrt(12)): a likelihood that claims to be
# more certain than that describes the rounding, and its density grows without bound.
SCALE_FLOOR = 1e-3


def positive(raw: tf.Tensor) -> tf.Tensor:
    """Return SCALE_FLOOR + softplus(raw): the scale parameter of every layer here."""
    return SCALE_FLOOR + tf.nn.softplus(raw)


class ProbabilisticLayer(keras.layers.Layer):
    """Base: a layer whose `call` returns a `tfd.Distribution`.

    A subclass defines `make_distribution`, and `compute_output_shape` for the shape of one sample.
    """

    def __init__(self, **kwargs):
        # Keras casts the inputs of a float32 layer to float32, under any global policy.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def make_distribution(self, parameters: tf.Tensor) -> tfd.Distribution:
        raise NotImplementedError

    def call(self, parameters):
        return self.make_distribution(tf.cast(parameters, tf.float32))


@register
class DistributionLayer(ProbabilisticLayer):
    """The general layer: any function from parameters to a distribution.

    The layer is saved by the function's registered name, never by its code::

        @keras.saving.register_keras_serializable(package="mine")
        def student_t(parameters):
            loc, raw_scale = tf.split(parameters, 2, axis=-1)
            return tfd.Independent(tfd.StudentT(4.0, loc, positive(raw_scale)), 1)

        layer = DistributionLayer(student_t)

    Args:
        distribution_fn: maps float32 parameters [..., n] to a distribution whose batch shape
            begins with the batch axis of the parameters.

    Raises:
        TypeError: if `distribution_fn` is not callable.
        ValueError: from `get_config`, if the function is not registered with Keras.
    """

    def __init__(self, distribution_fn: Callable[[tf.Tensor], tfd.Distribution], **kwargs):
        super().__init__(**kwargs)
        if not callable(distribution_fn):
            raise TypeError(
                "`distribution_fn` must be a function from parameters to a distribution. "
                f"Received: distribution_fn={distribution_fn!r}."
            )
        self.distribution_fn = distribution_fn

    def make_distribution(self, parameters):
        return self.distribution_fn(parameters)

    def compute_output_shape(self, input_shape):
        # The function alone knows the shape: ask it about a batch of one.
        with tf.init_scope():
            q = self.distribution_fn(tf.zeros([size or 1 for size in input_shape]))
        sample_shape = (*q.batch_shape, *q.event_shape)
        return (input_shape[0], *sample_shape[1:])

    def get_config(self):
        name = keras.saving.get_registered_name(self.distribution_fn)
        if keras.saving.get_registered_object(name) is not self.distribution_fn:
            raise ValueError(
                "`distribution_fn` must be a registered function for the layer to be saved. "
                f"Received: {self.distribution_fn!r}. Decorate it with "
                "@keras.saving.register_keras_serializable(package=...)."
            )
        return super().get_config() | {"distribution_fn": name}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        name = config.pop("distribution_fn")
        function = keras.saving.get_registered_object(name)
        if function is None:
            raise ValueError(
                f"The function {name!r} must be registered before the layer is loaded: import the "
                "module that decorates it with @keras.saving.register_keras_serializable."
            )
        return cls(function, **config)


class EventLayer(ProbabilisticLayer):
    """Base of the layers that know the shape of their event.

    Args:
        event_shape: an integer, or a sequence of integers; all positive.

    Raises:
        ValueError: if the event shape is empty or not positive, or, when the layer is built, if
            the last axis of its input is not `params_size(event_shape)` long.
    """

    def __init__(self, event_shape: int | Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.event_shape = _as_shape(event_shape)

    @staticmethod
    def params_size(event_shape: int | Sequence[int]) -> int:
        """Return how many parameters an event of this shape takes."""
        raise NotImplementedError

    def build(self, input_shape):
        expected = self.params_size(self.event_shape)
        if input_shape[-1] != expected:
            raise ValueError(
                f"The input of {type(self).__name__}({self.event_shape}) must have a last axis of "
                f"params_size(event_shape) = {expected} parameters. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        super().build(input_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], *self.event_shape)

    def get_config(self):
        return super().get_config() | {"event_shape": list(self.event_shape)}

    def _as_events(self, parameters: tf.Tensor) -> tf.Tensor:
        """Reshape [..., prod(event_shape)] to [..., *event_shape]."""
        batch = parameters.shape[:-1]
        if None not in batch[1:]:  # one axis may stay unknown without a shape to be computed
            return tf.reshape(parameters, (-1, *batch[1:], *self.event_shape))
        shape = tf.concat([tf.shape(parameters)[:-1], self.event_shape], axis=0)
        return tf.ensure_shape(tf.reshape(parameters, shape), (*batch, *self.event_shape))

    def _halves(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Split [..., 2 n] into two events: the first n parameters and the last n."""
        first, second = tf.split(parameters, 2, axis=-1)
        return self._as_events(first), self._as_events(second)


def _as_shape(event_shape: int | Sequence[int]) -> tuple[int, ...]:
    shape = tuple(event_shape) if isinstance(event_shape, (tuple, list)) else (event_shape,)
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            "`event_shape` must be a positive integer or a sequence of them. "
            f"Received: event_shape={event_shape!r}."
        )
    return shape


def _one_per_value(event_shape) -> int:
    return math.prod(_as_shape(event_shape))


def _two_per_value(event_shape) -> int:
    return 2 * math.prod(_as_shape(event_shape))


class _Normal(tfd.Normal):
    """TFP's, whose loc and scale have one shape: the mean then needs no scale."""

    def _mean(self):
        return self.loc

    def _stddev(self):
        return self.scale


@register
class IndependentNormal(EventLayer):
    """N(loc, diag(scale^2)); parameters are loc and raw scale, scale = positive(raw)."""

    params_size = staticmethod(_two_per_value)

    def make_distribution(self, parameters):
        loc, raw_scale = self._halves(parameters)
        return tfd.Independent(_Normal(loc, positive(raw_scale)), len(self.event_shape))


@register
class MultivariateNormalTriL(EventLayer):
    """N(loc, L L^T) over a vector; parameters are loc and the n (n + 1) / 2 entries of L.

    The diagonal of L is made positive by `positive`.
    """

    def __init__(self, event_shape, **kwargs):
        super().__init__(event_shape, **kwargs)
        if len(self.event_shape) != 1:
            raise ValueError(
                "`event_shape` of MultivariateNormalTriL must be one integer, the length of the "
                f"vector. Received: event_shape={event_shape!r}."
            )

    @staticmethod
    def params_size(event_shape):
        n = _one_per_value(event_shape)
        return n + n * (n + 1) // 2

    def make_distribution(self, parameters):
        (n,) = self.event_shape
        raw = tfp.math.fill_triangular(parameters[..., n:])  # [..., n, n]
        scale_tril = tf.linalg.set_diag(raw, positive(tf.linalg.diag_part(raw)))
        return tfd.MultivariateNormalTriL(parameters[..., :n], scale_tril)


@tf.custom_gradient
def _bernoulli_log_prob(event: tf.Tensor, logits: tf.Tensor):
    """sum event logits - log(1 + exp logits) over the last axis, terms exact to a rounding of 1.

    log(1 + exp l) = max(l, 0) + log(1 + exp(-|l|)), and the logarithms of up to 16 numbers between
    1 and 2 are taken at once, of their product: on a CPU a logarithm costs several times an exponential.
    The gradient is said outright: differentiating max and abs would make it 0 at l = 0.
    """
    size = logits.shape[-1]
    group = max(count for count in range(1, 17) if size % count == 0)
    factors = tf.reshape(
        1.0 + tf.exp(-tf.abs(logits)),
        tf.concat([tf.shape(logits)[:-1], [group, size // group]], axis=0),
    )
    logarithms = tf.reduce_sum(tf.math.log(tf.reduce_prod(factors, axis=-2)), axis=-1)
    value = tf.reduce_sum(event * logits - tf.nn.relu(logits), axis=-1) - logarithms

    def gradient(upstream):
        upstream = upstream[..., tf.newaxis]
        return upstream * logits, upstream * (event - tf.sigmoid(logits))

    return value, gradient


class _Bernoulli(tfd.Bernoulli):
    """TFP's, with mean and standard deviation from one tanh, both exact to a rounding of 1.

    With u = tanh(logits / 4) the mean 1/2 + tanh(logits / 2) / 2 is 1/2 + u / (1 + u^2), and the
    standard deviation 1 / (2 cosh(logits / 2)) is 1 / (1 + u^2) - 1/2.
    """

    def _mean(self):
        u = tf.tanh(0.25 * self.logits)
        return 0.5 + u * (1.0 / (1.0 + u * u))

    def _stddev(self):
        u = tf.tanh(0.25 * self.logits)
        return 1.0 / (1.0 + u * u) - 0.5

    def _variance(self):
        return tf.square(self._stddev())


class _IndependentBernoulli(tfd.Independent):
    """TFP's, with half the transcendental functions, over flat events.

    log p(x) = sum x logits - softplus(logits). Over a last axis of length 1, as that of grey
    images, XLA would sum without vector instructions.
    """

    def _log_prob(self, event):
        logits = self.distribution.logits
        rank = self.reinterpreted_batch_ndims
        size = math.prod(self.event_shape)
        event, logits = (
            tf.reshape(t, tf.concat([tf.shape(t)[: t.shape.rank - rank], [size]], axis=0))
            for t in (event, logits)
        )
        if not (event.shape == logits.shape and event.shape.is_fully_defined()):
            shape = tf.broadcast_dynamic_shape(tf.shape(event), tf.shape(logits))
            event, logits = tf.broadcast_to(event, shape), tf.broadcast_to(logits, shape)
        return _bernoulli_log_prob(event, logits)


@register
class IndependentBernoulli(EventLayer):
    """Bernoulli with logits as parameters: for binary pixels, as floats 0 and 1."""

    params_size = staticmethod(_one_per_value)

    def make_distribution(self, parameters):
        logits = self._as_events(parameters)
        pixels = _Bernoulli(logits, dtype=tf.float32)
        return _IndependentBernoulli(pixels, len(self.event_shape))


@register
class IndependentContinuousBernoulli(EventLayer):
    """Continuous Bernoulli with logits as parameters: a density for pixels in [0, 1].

    Source: Loaiza-Ganem and Cunningham (2019), arXiv:1907.06845.
    """

    params_size = staticmethod(_one_per_value)

    def make_distribution(self, parameters):
        logits = self._as_events(parameters)
        return tfd.Independent(tfd.ContinuousBernoulli(logits), len(self.event_shape))


@register
class IndependentDiscretizedLogistic(EventLayer):
    """Logistic over 256 grey levels; parameters are loc and raw scale, on the [0, 1] scale."""

    params_size = staticmethod(_two_per_value)

    def make_distribution(self, parameters):
        loc, raw_scale = self._halves(parameters)
        pixels = DiscretizedLogistic(loc, positive(raw_scale))
        return tfd.Independent(pixels, len(self.event_shape))


def reparameterized_sample(
    distribution: tfd.Distribution, *, seed: tf.Tensor, num_samples: int | None = None
) -> tf.Tensor:
    """Draw samples through which gradients flow to the distribution's parameters.

    Args:
        distribution: any fully reparameterised distribution.
        seed: int32 tensor of shape [2].
        num_samples: K, or None for one sample without a sample axis.

    Returns:
        ``[K, *batch, *event]``, or ``[*batch, *event]``. For the normal distributions of this module the
        draws are the same with and without XLA.

    Raises:
        TypeError: if it is no distribution.
        ValueError: if the distribution is not reparameterised.
    """
    if not isinstance(distribution, tfd.Distribution):
        raise TypeError(
            "An encoder must return a distribution: end it in a layer of dvae_tf.layers, for example "
            f"IndependentNormal. Received: {type(distribution).__name__}."
        )
    if distribution.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
        raise ValueError(
            "The latent distribution must be reparameterised, for example IndependentNormal. "
            f"Received: {distribution!r}."
        )
    shape = tf.concat([distribution.batch_shape_tensor(), distribution.event_shape_tensor()], 0)
    if num_samples is not None:
        shape = tf.concat([[num_samples], shape], 0)
    if is_normal(distribution):
        return from_standard_normal(distribution, randomness.normal(shape, seed))
    return distribution.sample(() if num_samples is None else num_samples, seed=seed)


def is_normal(distribution: tfd.Distribution) -> bool:
    """Return whether `from_standard_normal` takes this distribution."""
    if isinstance(distribution, tfd.Independent):
        return isinstance(distribution.distribution, tfd.Normal)
    return isinstance(distribution, tfd.MultivariateNormalTriL)


def from_standard_normal(distribution: tfd.Distribution, eps: tf.Tensor) -> tf.Tensor:
    """Return mean + scale eps: a draw from a normal distribution where eps ~ N(0, I)."""
    if isinstance(distribution, tfd.MultivariateNormalTriL):
        return distribution.loc + distribution.scale.matvec(eps)
    normal = distribution.distribution
    return normal.loc + normal.scale * eps


def standard_normal(q: tfd.Distribution) -> tfd.Distribution:
    """Return p(z) = N(0, I), of the type for which TFP knows KL(q || p(z)) in closed form."""
    zeros = tf.zeros(q.event_shape)
    if isinstance(q, tfd.MultivariateNormalTriL):
        return tfd.MultivariateNormalDiag(zeros)
    return tfd.Independent(tfd.Normal(zeros, 1.0), q.event_shape.rank)


@register
class Sample(keras.layers.Layer):
    """Draws z ~ q, so that an encoder and a decoder wire into one Functional model.

        z = Sample()(distribution=encoder.output)
        model = keras.Model(encoder.input, decoder(z))

    Args:
        seed: of the layer's own generator, which advances with every call, as in Keras' own random
            layers. None draws one. A seed given to `call` is used instead and leaves the
            generator alone.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, *, distribution, seed=None):
        if seed is None:
            seed = tf.cast(self._generator.next(), tf.int32)
        return reparameterized_sample(distribution, seed=seed)

    def compute_output_shape(self, distribution_shape=None, **kwargs):
        return distribution_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}
