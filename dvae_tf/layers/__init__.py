"""Keras 3 layers that turn a tensor of parameters into a distribution.

    encoder = keras.Sequential([..., Dense(IndependentNormal.params_size(50)), IndependentNormal(50)])
    q = encoder(x)                          # a tfd.Distribution: q.mean(), q.log_prob(z), ...

In symbolic models the output of such a layer has the shape of one sample, so that it works in
Sequential and Functional models. Keras passes distributions between layers by keyword only:
`Sample()(distribution=encoder.output)`. Parameters are cast to float32 under every mixed-precision
policy, because log densities are too coarse in half precision.
"""

from dvae_tf.latents import draw as reparameterized_sample
from dvae_tf.layers.bernoulli import IndependentBernoulli
from dvae_tf.layers.continuous_bernoulli import IndependentContinuousBernoulli
from dvae_tf.layers.discretized_logistic import IndependentDiscretizedLogistic
from dvae_tf.layers.layer import (
    SCALE_FLOOR,
    DistributionLayer,
    EventLayer,
    ProbabilisticLayer,
    positive,
)
from dvae_tf.layers.normal import IndependentNormal, MultivariateNormalTriL
from dvae_tf.layers.observed_signal import ObservedSignal
from dvae_tf.layers.sample import Sample

__all__ = [
    "SCALE_FLOOR",
    "DistributionLayer",
    "EventLayer",
    "IndependentBernoulli",
    "IndependentContinuousBernoulli",
    "IndependentDiscretizedLogistic",
    "IndependentNormal",
    "MultivariateNormalTriL",
    "ObservedSignal",
    "ProbabilisticLayer",
    "Sample",
    "positive",
    "reparameterized_sample",
]
