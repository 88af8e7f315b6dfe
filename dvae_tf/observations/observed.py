"""The distribution of what is seen of a signal."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from dvae_tf.observations.observation import Observation


class Observed(tfd.Distribution):
    """p(y|s) over examples: values are observed independently, given their signal.

        log p(y|s) = sum_i log p(y_i|s_i), over all i where y_i is not NaN.

    A value that is NaN was not seen: it adds nothing, and its gradient is 0. The mean is the signal.

    Args:
        observation: the model of one value.
        signal: s, float32 [*batch, *event], for images [B, H, W, C]. Sizes may be unknown in a graph.
        event_ndims: number of axes of an event; by default all but the first.

    Raises:
        TypeError: if `observation` is not an `Observation`.
        ValueError: if the signal has fewer axes than an event.
    """

    def __init__(
        self,
        observation: Observation,
        signal,
        event_ndims: int | None = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Observed",
    ):
        parameters: dict[str, Any] = dict(locals())
        if not isinstance(observation, Observation):
            raise TypeError(
                "`observation` must be an Observation, for example observations.Gaussian(0.1). "
                f"Received: observation={observation!r}."
            )
        with tf.name_scope(name):
            signal = tf.convert_to_tensor(signal, tf.float32, name="signal")
            rank = signal.shape.rank
            event_ndims = rank - 1 if event_ndims is None else event_ndims
            if not 0 < event_ndims <= rank:
                raise ValueError(
                    "`signal` must have the axes of an event, and a batch axis before them. "
                    f"Received: a signal of shape {signal.shape} with event_ndims={event_ndims}."
                )
            self._observation = observation
            self._signal = signal
            self._event_ndims = event_ndims
            super().__init__(
                dtype=tf.float32,
                reparameterization_type=tfd.NOT_REPARAMETERIZED,
                validate_args=validate_args,
                allow_nan_stats=allow_nan_stats,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        properties = tfp.util.ParameterProperties
        return {"signal": properties(event_ndims=lambda self: self._event_ndims)}

    @property
    def observation(self) -> Observation:
        return self._observation

    @property
    def signal(self) -> tf.Tensor:
        """The signal s: [*batch, *event]."""
        return self._signal

    def _event_shape_tensor(self):
        return tf.shape(self.signal)[-self._event_ndims :]

    def _event_shape(self):
        return self.signal.shape[-self._event_ndims :]

    def _log_prob(self, y):
        is_missing = tf.math.is_nan(y)
        # A NaN that only the second `where` drops would still make its gradient NaN.
        log_p = self.observation.log_prob(tf.where(is_missing, 0.0, y), self.signal)
        log_p = tf.where(is_missing, 0.0, log_p)
        return tf.reduce_sum(log_p, axis=list(range(-self._event_ndims, 0)))

    def _mean(self):
        return tf.identity(self.signal)

    def _variance(self):
        return self.observation.variance(self.signal)

    def _sample_n(self, n, seed=None):
        seed = tfp.random.sanitize_seed(seed)
        shape = tf.concat([[n], tf.shape(self.signal)], axis=0)
        return self.observation.sample(tf.broadcast_to(self.signal, shape), seed)
