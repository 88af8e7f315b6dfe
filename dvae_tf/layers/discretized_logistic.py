"""The discretised logistic distribution, a likelihood for values stored in 8 bits."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from dvae_tf import randomness
from dvae_tf.kinds.image import pixels
from dvae_tf.layers.layer import EventLayer, positive, register, two_per_value


class DiscretizedLogistic(tfd.Distribution):
    """A logistic density, integrated over a bin around each level that a stored value can have.

    The support is {0, 1/n, ..., 1} with n = `num_levels` - 1. Let F be the logistic CDF with mean
    `loc` and scale `scale`. Then

        P(k/n) = F((k + 1/2)/n) - F((k - 1/2)/n),   0 < k < n,
        P(0) = F(1/(2n)),   P(1) = 1 - F(1 - 1/(2n)).

    Sources: Kingma et al. (2016), arXiv:1606.04934, appendix C; Salimans et al. (2017),
    arXiv:1701.05517, equation 2.

    Args:
        loc: location on the [0, 1] scale; it may lie outside.
        scale: positive scale on the [0, 1] scale, broadcastable to `loc`.
        num_levels: number of levels of a stored value; by default those of 8 bits.
    """

    def __init__(
        self,
        loc,
        scale,
        num_levels: int = pixels.LEVELS,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "DiscretizedLogistic",
    ):
        parameters: dict[str, Any] = dict(locals())
        self._top = num_levels - 1
        with tf.name_scope(name):
            self._loc = tf.convert_to_tensor(loc, tf.float32, name="loc")
            self._scale = tf.convert_to_tensor(scale, tf.float32, name="scale")
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
        return {"loc": properties(), "scale": properties()}

    @property
    def loc(self) -> tf.Tensor:
        return self._loc

    @property
    def scale(self) -> tf.Tensor:
        return self._scale

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return tf.TensorShape([])

    def _log_prob(self, value):
        level = tf.round(value * self._top)
        half = 0.5 / self._top
        centred = level / self._top - self.loc
        upper = (centred + half) / self.scale
        lower = (centred - half) / self.scale
        log_cdf_upper = tf.math.log_sigmoid(upper)
        log_survival_lower = tf.math.log_sigmoid(-lower)
        # F(upper) - F(lower) = F(upper) (1 - F(lower)) (1 - exp(lower - upper)): no cancellation.
        log_inside = log_cdf_upper + log_survival_lower
        log_inside += tf.math.log(-tf.math.expm1(-2.0 * half / self.scale))
        log_mass = tf.where(level <= 0.0, log_cdf_upper, log_inside)
        log_mass = tf.where(level >= self._top, log_survival_lower, log_mass)
        outside = (level < 0.0) | (level > self._top)
        return tf.where(outside, -float("inf"), log_mass)

    def _moments(self):
        # Eagerly the loop would run in Python, and take most of the time of denoising.
        function = _moments_in_a_graph if tf.executing_eagerly() else _moments
        return function(self.loc, self.scale, self._top)

    def _mean(self):
        return self._moments()[0]

    def _variance(self):
        mean, second = self._moments()
        return tf.maximum(second - tf.square(mean), 0.0)

    def _mode(self):
        return tf.clip_by_value(tf.round(self.loc * self._top) / self._top, 0.0, 1.0)

    def _sample_n(self, n, seed=None):
        seed = tfp.random.sanitize_seed(seed)
        shape = tf.concat([[n], self.batch_shape_tensor()], axis=0)
        u = randomness.uniform(shape, seed) + 2.0**-25  # midpoints of bins: never 0 or 1
        latent = self.loc + self.scale * (tf.math.log(u) - tf.math.log1p(-u))
        return tf.clip_by_value(tf.round(latent * self._top), 0.0, self._top) / self._top


def _moments(loc: tf.Tensor, scale: tf.Tensor, top: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return E[X] and E[X^2], from the survival function of each level.

    Let K = top X. Then E[K] = sum_k P(K > k) and E[K^2] = sum_k (2k + 1) P(K > k). The sum runs
    level by level, so that it needs no more memory than a few copies of `loc`.
    """

    def add_level(k, first, second):
        k_float = tf.cast(k, tf.float32)
        survival = tf.sigmoid((loc - (k_float + 0.5) / top) / scale)
        return k + 1, first + survival, second + (2.0 * k_float + 1.0) * survival

    zeros = tf.zeros_like(loc + scale)
    _, first, second = tf.while_loop(
        lambda k, *_: k < top,
        add_level,
        (tf.constant(0), zeros, zeros),
        maximum_iterations=top,
    )
    return first / top, second / top**2


_moments_in_a_graph = tf.function(_moments, reduce_retracing=True)


@register
class IndependentDiscretizedLogistic(EventLayer):
    """Independent discretised logistic values; parameters are loc and raw scale on [0, 1].

    Args:
        event_shape: an integer, or a sequence of integers; all positive.
        num_levels: number of levels of a stored value; by default those of 8 bits.
    """

    params_size = staticmethod(two_per_value)

    def __init__(self, event_shape, *, num_levels: int = pixels.LEVELS, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.num_levels = num_levels

    def make_distribution(self, parameters):
        loc, raw_scale = self.halves(parameters)
        values = DiscretizedLogistic(loc, positive(raw_scale), self.num_levels)
        return tfd.Independent(values, len(self.event_shape))

    def get_config(self):
        return super().get_config() | {"num_levels": self.num_levels}
