"""Normal distributions with independent values or with a full covariance."""

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from dvae_tf.layers.layer import EventLayer, one_per_value, positive, register, two_per_value


class _Normal(tfd.Normal):
    """TFP's Normal with loc and scale of one shape, so that its mean need not broadcast to scale."""

    def _mean(self):
        return self.loc

    def _stddev(self):
        return self.scale


@register
class IndependentNormal(EventLayer):
    """N(loc, diag(scale^2)); the parameters are loc and raw, with scale = positive(raw)."""

    params_size = staticmethod(two_per_value)

    def make_distribution(self, parameters):
        loc, raw_scale = self.halves(parameters)
        return tfd.Independent(_Normal(loc, positive(raw_scale)), len(self.event_shape))


@register
class MultivariateNormalTriL(EventLayer):
    """N(loc, L L^T) over vectors; the parameters are loc and the n (n + 1) / 2 entries of L.

    `positive` makes the diagonal of L positive.
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
        n = one_per_value(event_shape)
        return n + n * (n + 1) // 2

    def make_distribution(self, parameters):
        (n,) = self.event_shape
        raw = tfp.math.fill_triangular(parameters[..., n:])  # [..., n, n]
        scale_tril = tf.linalg.set_diag(raw, positive(tf.linalg.diag_part(raw)))
        return tfd.MultivariateNormalTriL(parameters[..., :n], scale_tril)
