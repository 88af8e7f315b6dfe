"""Bernoulli distributions of binary values."""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf.layers.layer import EventLayer, one_per_value, register


@tf.custom_gradient
def _bernoulli_log_prob(event: tf.Tensor, logits: tf.Tensor):
    """Return sum_i event_i logits_i - log(1 + exp(logits_i)) over the last axis.

    log(1 + exp l) is computed as max(l, 0) + log(1 + exp(-|l|)). Up to 16 of the factors
    1 + exp(-|l|), which lie between 1 and 2, are multiplied before one logarithm. On a CPU a
    logarithm costs several times an exponential. Each term is exact to a rounding of 1. The gradient
    is given explicitly, because differentiating max and abs would make it 0 at l = 0.
    """
    size = logits.shape[-1]
    # Of unknown size there is no common divisor but 1.
    group = max(count for count in range(1, 17) if size % count == 0) if size else 1
    factors = tf.reshape(
        1.0 + tf.exp(-tf.abs(logits)),
        tf.concat([tf.shape(logits)[:-1], [group, size // group if size else -1]], axis=0),
    )
    logarithms = tf.reduce_sum(tf.math.log(tf.reduce_prod(factors, axis=-2)), axis=-1)
    value = tf.reduce_sum(event * logits - tf.nn.relu(logits), axis=-1) - logarithms

    def gradient(upstream):
        upstream = upstream[..., tf.newaxis]
        return upstream * logits, upstream * (event - tf.sigmoid(logits))

    return value, gradient


class _Bernoulli(tfd.Bernoulli):
    """TFP's Bernoulli, with mean and standard deviation from one tanh, exact to a rounding of 1.

    Let u = tanh(logits / 4). Then

        mean   = 1/2 + tanh(logits / 2) / 2    = 1/2 + u / (1 + u^2)
        stddev = 1 / (2 cosh(logits / 2))      = 1 / (1 + u^2) - 1/2
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
    """TFP's Independent, with half the transcendental functions, over flattened events.

    log p(x) = sum_i x_i logits_i - softplus(logits_i). Events are flattened because XLA sums over a
    last axis of length 1, a single channel, without vector instructions.
    """

    def _log_prob(self, event):
        logits = self.distribution.logits
        rank = self.reinterpreted_batch_ndims
        size = self.event_shape.num_elements() or -1
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
    """Independent Bernoulli values, 0 or 1 as floats; the parameters are logits."""

    params_size = staticmethod(one_per_value)

    def make_distribution(self, parameters):
        logits = self.as_events(parameters)
        pixels = _Bernoulli(logits, dtype=tf.float32)
        return _IndependentBernoulli(pixels, len(self.event_shape))
