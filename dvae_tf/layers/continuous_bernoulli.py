"""The continuous Bernoulli distribution of values in [0, 1]."""

from tensorflow_probability import distributions as tfd

from dvae_tf.layers.layer import EventLayer, one_per_value, register


@register
class IndependentContinuousBernoulli(EventLayer):
    """Independent continuous Bernoulli values, a density on [0, 1]; the parameters are logits.

    Source: Loaiza-Ganem and Cunningham (2019), arXiv:1907.06845.
    """

    params_size = staticmethod(one_per_value)

    def make_distribution(self, parameters):
        logits = self.as_events(parameters)
        return tfd.Independent(tfd.ContinuousBernoulli(logits), len(self.event_shape))
