"""Estimating log p(x) by importance sampling from the posterior."""

import concurrent.futures
import itertools
import math
import threading
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from dvae_tf import bounds, corruptions, counts, densities, latents, nests, randomness
from dvae_tf.evidence.estimate import LogLikelihood
from dvae_tf.kinds import Kind, kind_of
from dvae_tf.priors import Prior, StandardNormal

# Latents decoded at once: enough for efficient matrix products, and few enough for the memory.
_ROWS = 5000
_EXAMPLES = 100
_BLOCKS_AT_ONCE = 3
# Several threads may estimate at once, but one at a time traces and compiles.
_TRACING = threading.Lock()


def importance_sampling(
    encoder: keras.Model,
    decoder: keras.Model,
    examples,
    *,
    prior: Prior | None = None,
    kind: Kind | None = None,
    num_samples: int = 5000,
    corruption: corruptions.Corruption | None = None,
    num_corruptions: int = 1,
    seed: int = 0,
    rows: int = _ROWS,
    jit_compile: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> LogLikelihood:
    """Estimate log p(x) = log E_r[ p(x|z) p(z) / r(z) ] with samples z from a proposal r.

    The proposal is q(z|x). With a corruption it is the mixture (1/M) sum_m q(z|x~_m) of M posteriors
    of corrupted examples. The estimate is a lower bound in expectation, and rises to log p(x) as
    `num_samples` grows. Source: Burda et al. (2016), arXiv:1509.00519, section 5.

    Args:
        encoder, decoder: models that return distributions over latents and over examples.
        examples: clean examples, [N, ...].
        prior: p(z); None takes the standard normal.
        kind: kind of data; None infers it from the encoder's input shape.
        num_samples: samples for each example, independent of `rows`.
        corruption: p(x~|x) of a mixture proposal; None takes q(z|x).
        num_corruptions: M, posteriors in the mixture; they stay the same for all samples.
        seed: seed of the proposal's corruptions and samples.
        rows: latents decoded at once, which limits the memory.
        jit_compile: whether to compile with XLA.
        progress: called with (examples done, N) after every block of examples.

    Raises:
        ValueError: if a number is not positive, M > 1 without a corruption, or the encoder does not
            take these examples.
    """
    for name, value in (
        ("num_samples", num_samples),
        ("num_corruptions", num_corruptions),
        ("rows", rows),
    ):
        counts.check(name, value)
    if num_corruptions > 1 and corruption is None:
        raise ValueError(
            "`num_corruptions` must be 1 without a `corruption`. "
            f"Received: num_corruptions={num_corruptions}."
        )
    kind = kind_of(encoder) if kind is None else kind
    prior = StandardNormal(latents.shape_of(decoder)) if prior is None else prior
    examples = tf.nest.map_structure(np.asarray, kind.as_examples(examples, encoder))
    m, count = num_corruptions, nests.batch_size(examples)
    block = min(_EXAMPLES, count, rows)
    chunk = min(max(rows // block, 1), num_samples)
    num_chunks = -(-num_samples // chunk)

    # One call for each chunk, because matrix products are slower inside a compiled loop.
    @tf.function(autograph=False, jit_compile=jit_compile)
    def add_chunk(x, noisy, index, seed, total, squares):
        """Add the weights of chunk `index` to log sum w and log sum w^2, each [B]."""
        sample_seed, component_seed = randomness.split(randomness.fold_in(seed, index))
        q = encoder(noisy, training=False)
        z = latents.draw_along(q, seed=sample_seed, num_samples=chunk)  # [S, M B, L]
        if m > 1:
            u = randomness.uniform([chunk, block], component_seed)
            component = tf.one_hot(tf.cast(u * m, tf.int32), m, axis=1)  # [S, M, B]
            separate = nests.separate(latents.alone(z), m, axis=1)
            z = latents.choose(separate, component)  # [S, B, L]
            log_proposal = densities.mixture_log_posterior(q, z, m)
        else:
            log_proposal = latents.log_density(q, z)
        log_reconstruction = densities.log_reconstruction(decoder, z, x, copies=(chunk,))
        log_w = bounds.log_weights(log_reconstruction, prior.log_prob(z), log_proposal)
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
            noisy = corruption(nests.repeat(x, m), seed=corruption_seed)
        total = squares = tf.fill([block], -math.inf)
        for index in range(num_chunks):
            total, squares = add_chunk(x, noisy, tf.constant(index), seed, total, squares)
        return total, squares

    def estimate_block(start):
        rows = nests.take(examples, slice(start, start + block))
        size = nests.batch_size(rows)
        x = tf.nest.map_structure(
            lambda a: tf.constant(np.pad(a, [(0, block - size)] + [(0, 0)] * (a.ndim - 1))), rows
        )
        block_seed = randomness.fold_in(randomness.as_seed(seed), start // block)
        return [t.numpy()[:size] for t in estimate(x, block_seed)]

    # Several blocks at a time keep all cores busy while one block waits for its last thread.
    totals, squares = [], []
    with _TRACING:
        first = estimate_block(0)
    with concurrent.futures.ThreadPoolExecutor(_BLOCKS_AT_ONCE) as pool:
        others = pool.map(estimate_block, range(block, count, block))
        for total, square in itertools.chain([first], others):
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
    """Return log(exp a + exp b); both may be -inf."""
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)
