"""Likelihoods p(x|z). `LIKELIHOODS` holds them by name; each is one module of this folder."""

from dvae_tf.likelihoods.likelihood import LIKELIHOODS, Likelihood, likelihood_of

__all__ = ["LIKELIHOODS", "Likelihood", "likelihood_of"]
