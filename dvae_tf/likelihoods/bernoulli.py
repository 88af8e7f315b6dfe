"""The likelihood of binary values."""

import numpy as np
import scipy.special

from dvae_tf.layers import IndependentBernoulli
from dvae_tf.likelihoods.likelihood import LIKELIHOODS, Likelihood


@LIKELIHOODS.register
class Bernoulli(Likelihood):
    """Bernoulli, for binary values."""

    name = "bernoulli"
    values = "black or white"
    remark = (
        "If images are grey, each step draws black or white with the grey value as "
        "probability of white (`--binarize dynamic`)"
    )
    layer = IndependentBernoulli
    step = 1.0
    is_binary = True

    @classmethod
    def location(cls, mean):
        return scipy.special.logit(np.clip(mean, 0.01, 0.99))
