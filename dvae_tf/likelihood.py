"""log p(x) of examples under a model, by importance sampling or annealed importance sampling.

`log_likelihood` is log p(x) in nats; larger is better. `nll` is its negative.
"""

from dvae_tf.evidence import (
    LogLikelihood,
    annealed_importance_sampling,
    bits_per_dimension,
    importance_sampling,
)

__all__ = [
    "LogLikelihood",
    "annealed_importance_sampling",
    "bits_per_dimension",
    "importance_sampling",
]
