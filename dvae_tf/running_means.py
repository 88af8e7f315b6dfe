"""Means over an epoch, in one variable."""

import keras
import tensorflow as tf


class RunningMeans(keras.metrics.Metric):
    """Weighted means of several values, kept in one variable.

    One variable for each value would slow a short training step down by a twentieth.
    """

    def __init__(self, value_names: tuple[str, ...]):
        super().__init__(name="loss")  # `evaluate` returns it first
        self._value_names = value_names
        self._totals = self.add_weight(
            shape=(len(value_names) + 1,), initializer="zeros", dtype="float32", name="totals"
        )

    @property
    def count(self) -> tf.Tensor:
        """The sum of the weights so far."""
        return self._totals[-1]

    def update_state(self, values, sample_weight):
        weight = tf.cast(sample_weight, tf.float32)
        self._totals.assign_add(weight * tf.stack([*values, 1.0]))

    def result(self) -> dict[str, tf.Tensor]:
        means = tf.math.divide_no_nan(self._totals[:-1], self.count)
        return dict(zip(self._value_names, tf.unstack(means), strict=True))
