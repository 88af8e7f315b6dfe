"""The likelihood of real values."""

from dvae_tf.layers import IndependentNormal
from dvae_tf.likelihoods.likelihood import LIKELIHOODS, Likelihood


@LIKELIHOODS.register
class Gaussian(Likelihood):
    """Independent normal values with a learnt scale."""

    name = "gaussian"
    values = "real numbers"
    layer = IndependentNormal
