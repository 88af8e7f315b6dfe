"""Estimating log p(x) by annealing from the prior to the posterior."""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dvae_tf import latents, nests, randomness
from dvae_tf.evidence.estimate import LogLikelihood
from dvae_tf.kinds import Kind, kind_of_shape
from dvae_tf.priors import Prior, StandardNormal

# Annealing is linear in the inverse temperature between these values.
_STRETCHES = (0.0, 0.003, 0.03, 0.2, 1.0)


class _FreshHamiltonianMonteCarlo(tfp.mcmc.HamiltonianMonteCarlo):
    """Hamiltonian transitions that evaluate the density anew at every step.

    TFP's annealing passes on the density at the previous temperature. A transition that accepts by
    that density would not leave its own distribution invariant.
    """

    def one_step(self, current_state, previous_kernel_results, seed=None):
        return super().one_step(current_state, self.bootstrap_results(current_state), seed=seed)


def annealed_importance_sampling(
    decoder: keras.Model,
    examples,
    *,
    latent_dim: int | None = None,
    prior: Prior | None = None,
    kind: Kind | None = None,
    num_chains: int = 16,
    num_temperatures: int = 800,
    num_leapfrog_steps: int = 5,
    seed: int = 0,
) -> LogLikelihood:
    """Estimate log p(x) by annealing from p(z) to p(x, z) with Hamiltonian transitions.

    No encoder is involved, so that the result is a second opinion on `importance_sampling`. The path
    is p(z) p(x|z)^beta. Within each stretch of `_STRETCHES` beta grows linearly; the first stretches
    are short, because most of the change happens at small beta. Step sizes are tuned before each
    stretch, at its final beta, and then fixed. With given step sizes the estimate is a lower
    bound in expectation; tuning them on the same chains makes this approximate.
    Sources: Neal (2001), Annealed importance sampling; Wu et al. (2017), arXiv:1611.04273.

    Args:
        decoder: a model from latents [N, L] to a distribution over examples.
        examples: clean examples, [N, ...].
        latent_dim: L; needed only without a prior.
        prior: p(z); None takes the standard normal.
        kind: kind of data; None infers it from the decoder's output shape.
        num_chains: chains for each example, whose weights are averaged.
        num_temperatures: steps from the prior to the posterior, divided among the stretches.
        num_leapfrog_steps: leapfrog steps in each transition.
        seed: seed of all draws.

    Raises:
        ValueError: if neither `latent_dim` nor `prior` is given, or the examples are not valid.
    """
    kind = kind_of_shape(getattr(decoder, "output_shape", None)) if kind is None else kind
    x = kind.as_examples(examples)
    count = len(tf.nest.flatten(x)[0])
    if prior is None:
        if latent_dim is None:
            raise ValueError("Give `latent_dim` or `prior`: the shape of a latent is unknown.")
        prior = StandardNormal((latent_dim,))
    shape = prior.event_shape
    size = latents.size_of(shape)

    tiled = nests.repeat(x, num_chains)

    def tempered(beta):
        def log_density(vectors):  # [chains, N, L]
            z = latents.from_vectors(tf.reshape(vectors, [-1, size]), shape)
            p = decoder(z, training=False)
            log_reconstruction = tf.reshape(p.log_prob(tiled), [num_chains, count])
            return prior.log_prob(latents.from_vectors(vectors, shape)) + beta * log_reconstruction

        return log_density

    @tf.function(autograph=False)
    def find_step_size(state, step_size, beta, seed):
        adaptive = tfp.mcmc.SimpleStepSizeAdaptation(
            tfp.mcmc.HamiltonianMonteCarlo(tempered(beta), step_size, num_leapfrog_steps),
            num_adaptation_steps=80,
            target_accept_prob=0.8,
        )
        return tfp.mcmc.sample_chain(
            1,
            state,
            kernel=adaptive,
            num_burnin_steps=100,
            seed=seed,
            trace_fn=lambda _, results: results.new_step_size,
        )[1][0]

    @tf.function(autograph=False)
    def anneal(state, step_size, start, end, seed):
        state, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            max(num_temperatures // (len(_STRETCHES) - 1), 1),
            tempered(start),
            tempered(end),
            state,
            lambda target: _FreshHamiltonianMonteCarlo(target, step_size, num_leapfrog_steps),
            seed=seed,
        )
        return state, log_weights  # [chains, N]

    start_seed, seed = randomness.split(randomness.as_seed(seed))
    draws = latents.as_vectors(prior.sample(num_chains * count, seed=start_seed))
    state = tf.reshape(draws, [num_chains, count, size])
    step_size = tf.fill([1, count, 1], 0.1)
    log_w = np.zeros([num_chains, count])
    for index, (start, end) in enumerate(itertools.pairwise(_STRETCHES)):
        pilot_seed, chain_seed = randomness.split(randomness.fold_in(seed, index))
        start, end = tf.constant(start), tf.constant(end)
        step_size = find_step_size(state, step_size, end, pilot_seed)
        state, log_weights = anneal(state, step_size, start, end, chain_seed)
        log_w += log_weights.numpy()
    top = log_w.max(axis=0)
    weights = np.exp(log_w - top)
    mean = weights.mean(axis=0)
    error = np.full(count, math.nan)
    if num_chains > 1:
        error = weights.std(axis=0, ddof=1) / math.sqrt(num_chains) / mean
    return LogLikelihood(top + np.log(mean), error, num_chains)
