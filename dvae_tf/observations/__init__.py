"""Observations p(y|s): how a signal s, a clean example, is seen as noisy values y.

An observation is a stateless, serialisable model of the noise::

    observation = PoissonGaussian(gain=0.01, offset=0.1, read_noise=0.02)
    p = Observed(observation, signal)           # a tfd.Distribution: p.log_prob(y), p.sample(seed=...)

With it in the likelihood, training needs noisy examples only. Each observation is one module of this
folder. The registry `OBSERVATIONS` finds them, and `from_text` reads "poisson_gaussian:0.01,0.1,0.02".
`estimation` finds a model from noisy images, from pairs, or from a calibration stack.
"""

from dvae_tf.observations.gaussian import Gaussian
from dvae_tf.observations.observation import OBSERVATIONS, Observation, from_text, to_text
from dvae_tf.observations.observed import Observed
from dvae_tf.observations.poisson import Poisson
from dvae_tf.observations.poisson_gaussian import PoissonGaussian

__all__ = [
    "OBSERVATIONS",
    "Gaussian",
    "Observation",
    "Observed",
    "Poisson",
    "PoissonGaussian",
    "from_text",
    "to_text",
]
