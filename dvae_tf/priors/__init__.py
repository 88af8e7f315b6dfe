"""Priors p(z) of latents. `PRIORS` holds them by name; each is one module of this folder."""

from dvae_tf.priors.prior import PRIORS, Prior
from dvae_tf.priors.standard_normal import StandardNormal

__all__ = ["PRIORS", "Prior", "StandardNormal"]
