"""Bernoulli distributions of binary values."""

import math

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf.layers.layer import EventLayer, one_per_value, register


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

    params_size = staticmethod(one_per_value)

    def make_distribution(self, parameters):
        logits = self.as_events(parameters)
        pixels = _Bernoulli(logits, dtype=tf.float32)
        return _IndependentBernoulli(pixels, len(self.event_shape))
