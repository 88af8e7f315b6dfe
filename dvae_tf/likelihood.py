"""log p(x) of examples under a model: importance sampling and annealed importance sampling."""

from dvae_tf.evidence.likelihood import (
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
