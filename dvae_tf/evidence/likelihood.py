"""log p(x) of images under a decoder: importance sampling, and annealed importance sampling.

log_likelihood is log p(x), in nats, larger is better; nll is its negative. With a discrete
likelihood, bits per dimension are nll / (log(2) * number of values in an image).
"""

import concurrent.futures
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dvae_tf import bounds, corruptions, counts, layers, randomness
from dvae_tf.kinds.image.checks import as_images

# Rows that a decoder sees at once: large enough for its matrix products, small enough for memory.
_ROWS = 5000
_IMAGES = 100
_BLOCKS_AT_ONCE = 3

# Inverse temperatures between which annealing is linear.
_STRETCHES = (0.0, 0.003, 0.03, 0.2, 1.0)


class LogLikelihood(NamedTuple):
    """Estimates of log p(x) for N images, in nats.

    Attributes:
        log_likelihood: [N].
        monte_carlo_error: [N], standard error of each estimate; NaN for one sample.
        num_samples: importance samples, or annealing chains, of each image.
    """

    log_likelihood: np.ndarray
    monte_carlo_error: np.ndarray
    num_samples: int

    @property
    def mean(self) -> float:
        return float(np.mean(self.log_likelihood))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over images; NaN for one image."""
        count = len(self.log_likelihood)
        return (
            float(np.std(self.log_likelihood, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        )

    @property
    def mean_monte_carlo_error(self) -> float:
        """Standard error of the mean that is due to the finite number of samples."""
        squares = np.square(self.monte_carlo_error)
        return float(np.sqrt(np.sum(squares)) / len(squares))


def importance_sampling(
    encoder: keras.Model,
    decoder: keras.Model,
    images,
    *,
    num_samples: int = 5000,
    corruption: corruptions.Corruption | None = None,
    num_corruptions: int = 1,
    seed: int = 0,
    rows: int = _ROWS,
    jit_compile: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> LogLikelihood:
    """Estimate log p(x) = log E_r[ p(x|z) p(z) / r(z) ] with samples z from a proposal r.

    The proposal is q(z|x), or with a corruption the mixture (1/M) sum_m q(z|x~_m) of M posteriors
    of corrupted images. The estimate is a lower bound in expectation and rises to log p(x) with
    `num_samples`. Source: Burda et al. (2016), arXiv:1509.00519, section 5.

    Args:
        encoder, decoder: models that return distributions over latent vectors and over images.
        images: [N, H, W, C], clean.
        num_samples: samples for each image: exactly so many, whatever `rows` is.
        corruption: p(x~|x) of a mixture proposal, or None for q(z|x).
        num_corruptions: M, posteriors in the mixture; they stay the same for all samples.
        seed: of the proposal's corruptions and samples.
        rows: latents decoded at once, which bounds the memory.
        jit_compile: whether XLA compiles the work.
        progress: called with (images done, N) after every block of images.

    Raises:
        ValueError: if a number is not positive, M > 1 without a corruption, or the images are not
            such as `encoder` takes.
    """
    for name, value in (
        ("num_samples", num_samples),
        ("num_corruptions", num_corruptions),
        ("rows", rows),
    ):
        counts.check(name, value)
    if num_corruptions > 1 and corruption is None:
        raise ValueError(
            "`num_corruptions` must be 1 without a corruption. "
            f"Received: num_corruptions={num_corruptions}."
        )
    images = as_images(images, encoder).numpy()
    m, count = num_corruptions, len(images)
    block = min(_IMAGES, count, rows)
    chunk = min(max(rows // block, 1), num_samples)
    num_chunks = -(-num_samples // chunk)

    # One call a chunk: within a compiled loop matrix products would be slower.
    @tf.function(autograph=False, jit_compile=jit_compile)
    def add_chunk(x, noisy, index, seed, total, squares):
        """Add the weights of chunk `index` to log sum w and log sum w^2, each [B]."""
        sample_seed, component_seed = randomness.split(randomness.fold_in(seed, index))
        q = encoder(noisy)
        z = layers.reparameterized_sample(q, seed=sample_seed, num_samples=chunk)  # [S, M B, L]
        latent_dim = z.shape[-1]
        if m > 1:
            z = tf.reshape(z, [chunk, m, block, latent_dim])
            u = randomness.uniform([chunk, block], component_seed)
            component = tf.one_hot(tf.cast(u * m, tf.int32), m, axis=1)  # [S, M, B]
            z = tf.reduce_sum(z * component[..., tf.newaxis], axis=1)  # [S, B, L]
            each = q.log_prob(tf.tile(z, [1, m, 1]))  # [S, M B]
            log_proposal = bounds.log_mean_exp(tf.reshape(each, [chunk, m, block]), axis=1)
        else:
            log_proposal = q.log_prob(z)
        p = decoder(tf.reshape(z, [-1, latent_dim]))
        log_likelihood = p.log_prob(tf.tile(x, [chunk, 1, 1, 1]))
        log_prior = layers.standard_normal(q).log_prob(z)
        log_w = bounds.log_weights(
            tf.reshape(log_likelihood, [chunk, block]), log_prior, log_proposal
        )
        is_counted = index * chunk + tf.range(chunk) < num_samples
        log_w = tf.where(is_counted[:, tf.newaxis], log_w, -math.inf)
        total = _log_add_exp(total, tf.reduce_logsumexp(log_w, axis=0))
        squares = _log_add_exp(squares, tf.reduce_logsumexp(2.0 * log_w, axis=0))
        return total, squares

    def estimate(x, seed):
        """Return log sum w and log sum w^2 over all samples, each [B]."""
        corruption_seed, seed = randomness.split(seed)
        noisy = x
        if corruption is not None:
            noisy = corruption(tf.tile(x, [m, 1, 1, 1]), seed=corruption_seed)
        total = squares = tf.fill([block], -math.inf)
        for index in range(num_chunks):
            total, squares = add_chunk(x, noisy, tf.constant(index), seed, total, squares)
        return total, squares

    def estimate_block(start):
        x = images[start : start + block]
        padding = [(0, block - len(x)), (0, 0), (0, 0), (0, 0)]
        block_seed = randomness.fold_in(randomness.as_seed(seed), start // block)
        return [t.numpy()[: len(x)] for t in estimate(tf.constant(np.pad(x, padding)), block_seed)]

    # Several blocks at a time: while one waits for its last thread, another one works.
    totals, squares = [], []
    with concurrent.futures.ThreadPoolExecutor(_BLOCKS_AT_ONCE) as pool:
        for total, square in pool.map(estimate_block, range(0, count, block)):
            totals.append(total)
            squares.append(square)
            if progress is not None:
                progress(min(len(totals) * block, count), count)
    log_total = np.concatenate(totals).astype(np.float64)
    log_square = np.concatenate(squares).astype(np.float64)
    error = np.full(count, math.nan)
    if num_samples > 1:
        # Delta method: the relative variance of the mean weight.
        relative = np.exp(log_square - 2 * log_total) - 1 / num_samples
        error = np.sqrt(np.maximum(relative, 0) * num_samples / (num_samples - 1))
    return LogLikelihood(log_total - math.log(num_samples), error, num_samples)


def _log_add_exp(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """log(exp a + exp b), where both may be -inf."""
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)


class _FreshHamiltonianMonteCarlo(tfp.mcmc.HamiltonianMonteCarlo):
    """Hamiltonian transitions that evaluate the density anew at every step.

    TFP's annealing hands a transition the density of the temperature before it, on which the
    acceptance then rests: the transition would not leave its distribution as it is.
    """

    def one_step(self, current_state, previous_kernel_results, seed=None):
        return super().one_step(current_state, self.bootstrap_results(current_state), seed=seed)


def annealed_importance_sampling(
    decoder: keras.Model,
    images,
    *,
    latent_dim: int,
    num_chains: int = 16,
    num_temperatures: int = 800,
    num_leapfrog_steps: int = 5,
    seed: int = 0,
) -> LogLikelihood:
    """Estimate log p(x) by annealing from p(z) to p(x, z) with Hamiltonian transitions.

    The proposal is the prior: nothing here depends on an encoder, which makes it a second opinion
    on `importance_sampling`. The path is p(z) p(x|z)^beta, with beta linear within each of the
    stretches of `_STRETCHES`: most of the change happens at small beta. Each stretch has step
    sizes of its own, found beforehand at its end and then fixed. The estimate is a lower bound in
    expectation, apart from the step sizes, which are tuned on the same chains.
    Sources: Neal (2001), Annealed importance sampling; Wu et al. (2017), arXiv:1611.04273.

    Args:
        decoder: a model that returns a distribution over images.
        images: [N, H, W, C], clean.
        latent_dim: L.
        num_chains: chains for each image, averaged as weights.
        num_temperatures: steps from the prior to the posterior, shared among the stretches.
        num_leapfrog_steps: of each transition.
        seed: of all draws.
    """
    images = as_images(images)
    count = int(images.shape[0])
    prior = tfp.distributions.MultivariateNormalDiag(tf.zeros(latent_dim))
    tiled = tf.tile(images, [num_chains, 1, 1, 1])

    def tempered(beta):
        def log_density(z):
            p = decoder(tf.reshape(z, [-1, latent_dim]))
            log_likelihood = tf.reshape(p.log_prob(tiled), [num_chains, count])
            return prior.log_prob(z) + beta * log_likelihood

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
    state = randomness.normal([num_chains, count, latent_dim], start_seed)
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


def bits_per_dimension(log_likelihood: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Return -log2 p(x) over the number of values in an image, for a discrete likelihood."""
    return -np.asarray(log_likelihood) / (math.log(2) * math.prod(image_shape))
