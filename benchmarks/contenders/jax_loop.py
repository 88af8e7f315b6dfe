"""A JAX loop as one would write it: one jitted call for each step, or an epoch in one scan."""

import itertools
import time

import jax
import jax.numpy as jnp
import workloads as w
from jax import nn, random
from jax.scipy.special import logsumexp


def dense(key, sizes):
    pairs = list(itertools.pairwise(sizes))
    initial = nn.initializers.glorot_uniform()
    keys = random.split(key, len(pairs))
    return [
        (initial(k, pair, jnp.float32), jnp.zeros(pair[1]))
        for k, pair in zip(keys, pairs, strict=True)
    ]


def mlp(layers, h):
    for kernel, bias in layers[:-1]:
        h = nn.silu(h @ kernel + bias)
    kernel, bias = layers[-1]
    return h @ kernel + bias


def log_normal(z, mean, scale):
    return jnp.sum(
        -0.5 * ((z - mean) / scale) ** 2 - jnp.log(scale) - 0.5 * jnp.log(2 * jnp.pi), -1
    )


def loss_of(parameters, key, pixels, workload):
    encoder, decoder = parameters
    m, k = workload.num_corruptions, workload.num_samples
    keys = random.split(key, 3)
    x = (random.uniform(keys[0], pixels.shape) < pixels).astype(jnp.float32)
    u = random.uniform(keys[1], (m, *x.shape))
    noisy = jnp.where(u < w.LEVEL / 2, 0.0, jnp.where(u < w.LEVEL, 1.0, x))
    mean, raw = jnp.split(mlp(encoder, noisy), 2, axis=-1)  # [M, B, L]
    scale = w.SCALE_FLOOR + nn.softplus(raw)
    z = mean + scale * random.normal(keys[2], (k, *mean.shape))  # [K, M, B, L]
    logits = mlp(decoder, z)
    log_likelihood = jnp.sum(x * logits - nn.softplus(logits), -1)  # [K, M, B]
    if workload.objective == "elbo" and workload.posterior == "conditional":
        kl = jnp.sum(0.5 * (mean**2 + scale**2 - 1) - jnp.log(scale), -1)
        return -jnp.mean(jnp.mean(log_likelihood, 0) - kl)
    if workload.posterior == "mixture":
        crossed = log_normal(z[:, :, None], mean, scale)  # [K, M, M, B]
        log_q = logsumexp(crossed, axis=2) - jnp.log(m)
    else:
        log_q = log_normal(z, mean, scale)
    log_w = log_likelihood + log_normal(z, 0.0, 1.0) - log_q
    if workload.objective == "elbo":
        return -jnp.mean(log_w)
    return -jnp.mean(logsumexp(log_w, axis=(0, 1)) - jnp.log(m * k))


def run(variant, workload, images, num_epochs, seed):
    data = jnp.asarray(images.reshape(len(images), -1))
    keys = random.split(random.key(seed), 3)
    parameters = (
        dense(keys[0], [784, *w.HIDDEN, 2 * w.LATENT_DIM]),
        dense(keys[1], [w.LATENT_DIM, *reversed(w.HIDDEN), 784]),
    )
    first, second = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
    state = (parameters, first, second, jnp.zeros((), jnp.int32))

    def step(state, places):
        parameters, first, second, count = state
        pixels = data[places].astype(jnp.float32) / 255
        key = random.fold_in(keys[2], count)
        loss, gradient = jax.value_and_grad(loss_of)(parameters, key, pixels, workload)
        count += 1
        first = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, second, gradient)
        rate = w.LEARNING_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        parameters = jax.tree.map(
            lambda p, a, b: p - rate * a / (jnp.sqrt(b) + w.EPSILON), parameters, first, second
        )
        return (parameters, first, second, count), loss

    shape = (workload.steps, workload.batch_size)

    if variant == "scan":

        def run_epoch(state, key):
            order = random.permutation(key, len(data))[: shape[0] * shape[1]].reshape(shape)
            state, losses = jax.lax.scan(step, state, order)
            return state, losses.mean()

        run_epoch = jax.jit(run_epoch, donate_argnums=0)
    else:
        one = jax.jit(step, donate_argnums=0)

        def run_epoch(state, key):
            order = random.permutation(key, len(data))[: shape[0] * shape[1]].reshape(shape)
            losses = []
            for places in order:
                state, loss = one(state, places)
                losses.append(loss)
            return state, jnp.stack(losses).mean()

    seconds = []
    for index in range(num_epochs + 1):
        start = time.perf_counter()
        state, loss = run_epoch(state, random.fold_in(keys[2], 1_000_000 + index))
        loss = float(jax.block_until_ready(loss))
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[1:],
        "parameters": sum(p.size for p in jax.tree.leaves(state[0])),
        "loss": loss,
    }
