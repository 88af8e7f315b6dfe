"""The likelihood of values in [0, 1]."""

import numpy as np
import scipy.special

from dvae_tf.layers import IndependentContinuousBernoulli
from dvae_tf.likelihoods.likelihood import LIKELIHOODS, Likelihood


@LIKELIHOODS.register
class ContinuousBernoulli(Likelihood):
    """Continuous Bernoulli, a density on [0, 1]."""

    name = "continuous_bernoulli"
    values = "real numbers in [0, 1], many near the ends"
    layer = IndependentContinuousBernoulli

    @classmethod
    def location(cls, mean):
        return scipy.special.logit(np.clip(mean, 0.01, 0.99))
