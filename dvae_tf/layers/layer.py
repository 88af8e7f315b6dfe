"""Base classes of the layers that return a distribution."""

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

register = keras.saving.register_keras_serializable(package="dvae_tf")

# None stands for lengths that are free.
EventShape = int | Sequence[int | None]

# The smallest scale of any distribution made here. On the [0, 1] scale it is about the standard
# deviation of rounding to 8 bits. A likelihood with a smaller scale would model the rounding, and
# its density would grow without bound.
SCALE_FLOOR = 1e-3


def positive(raw: tf.Tensor) -> tf.Tensor:
    """Return SCALE_FLOOR + softplus(raw), which is the scale parameter of every layer here."""
    return SCALE_FLOOR + tf.nn.softplus(raw)


class ProbabilisticLayer(keras.layers.Layer):
    """Base class of layers whose `call` returns a `tfd.Distribution`.

    A subclass defines `make_distribution`, and `compute_output_shape` to return the shape of one
    sample, batch first.
    """

    def __init__(self, **kwargs):
        # Keras casts the inputs of a float32 layer to float32 under any global policy.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def make_distribution(self, parameters: tf.Tensor) -> tfd.Distribution:
        raise NotImplementedError

    def call(self, parameters):
        return self.make_distribution(tf.cast(parameters, tf.float32))


@register
class DistributionLayer(ProbabilisticLayer):
    """A layer that applies any function from parameters to a distribution.

    The layer is saved with the function's registered name, never with its code::

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
        ValueError: from `get_config` or `from_config`, if the function is not registered with Keras.
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
        # Only the function knows the shape, so call it on a batch of one.
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
                f"The function {name!r} must be registered before the layer is loaded. Import the "
                "module that decorates it with @keras.saving.register_keras_serializable."
            )
        return cls(function, **config)


class EventLayer(ProbabilisticLayer):
    """Base class of layers with a fixed event shape.

    Args:
        event_shape: an integer, or a sequence of integers; all positive. For events of any
            size all but the last are None, as in (None, None, 3). Parameters are then maps
            [..., height, width, n] that hold the first parameter of each channel, then the second.

    Raises:
        ValueError: if the event shape is empty or not positive. When the layer is built: if the last
            axis of its input does not have the length `params_size(event_shape)`.
    """

    def __init__(self, event_shape: EventShape, **kwargs):
        super().__init__(**kwargs)
        self.event_shape = _as_shape(event_shape)

    @staticmethod
    def params_size(event_shape: EventShape) -> int:
        """Return the number of parameters for an event of this shape."""
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
        if None in self.event_shape:
            return (*input_shape[:-1], self.event_shape[-1])
        return (*input_shape[:-1], *self.event_shape)

    def get_config(self):
        return super().get_config() | {"event_shape": list(self.event_shape)}

    def as_events(self, parameters: tf.Tensor) -> tf.Tensor:
        """Reshape ``[..., prod(event_shape)]`` to ``[..., *event_shape]``."""
        if None in self.event_shape:
            return parameters
        batch = parameters.shape[:-1]
        if None not in batch[1:]:  # one unknown axis, the batch, becomes -1
            return tf.reshape(parameters, (-1, *batch[1:], *self.event_shape))
        shape = tf.concat([tf.shape(parameters)[:-1], self.event_shape], axis=0)
        return tf.ensure_shape(tf.reshape(parameters, shape), (*batch, *self.event_shape))

    def halves(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Split [..., 2 n] into two events: the first n parameters, and the last n."""
        first, second = tf.split(parameters, 2, axis=-1)
        return self.as_events(first), self.as_events(second)


def _as_shape(event_shape: EventShape) -> tuple:
    shape = tuple(event_shape) if isinstance(event_shape, (tuple, list)) else (event_shape,)
    is_free = len(shape) > 1 and all(n is None for n in shape[:-1])
    sizes = shape[-1:] if is_free else shape
    if not shape or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(
            "`event_shape` must be a positive integer or a sequence of them. "
            f"Received: event_shape={event_shape!r}."
        )
    return shape


def one_per_value(event_shape) -> int:
    """Return the number of values in an event, or at each place of an event of any size."""
    shape = _as_shape(event_shape)
    return math.prod(shape) if None not in shape else shape[-1]


def two_per_value(event_shape) -> int:
    """Return twice the number of values in an event, or at each place of an event of any size."""
    return 2 * one_per_value(event_shape)
