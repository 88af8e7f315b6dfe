"""Estimates of the evidence log p(x): importance sampling and annealed importance sampling."""

from dvae_tf.evidence.annealing import annealed_importance_sampling
from dvae_tf.evidence.estimate import LogLikelihood, bits_per_dimension
from dvae_tf.evidence.importance import importance_sampling

__all__ = [
    "LogLikelihood",
    "annealed_importance_sampling",
    "bits_per_dimension",
    "importance_sampling",
]
