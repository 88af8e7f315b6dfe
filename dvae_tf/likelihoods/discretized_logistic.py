"""The likelihood of values stored in 8 bits."""

from dvae_tf.kinds.image import pixels
from dvae_tf.layers import IndependentDiscretizedLogistic
from dvae_tf.likelihoods.likelihood import LIKELIHOODS, Likelihood


@LIKELIHOODS.register
class DiscretizedLogistic(Likelihood):
    """Discretised logistic: a logistic density, integrated over a bin around each 8-bit level."""

    name = "discretized_logistic"
    values = "8-bit grey or colour"
    remark = "A probability, comparable in bits per dimension"
    layer = IndependentDiscretizedLogistic
    step = pixels.STEP
