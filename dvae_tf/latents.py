"""Latents: draws and moments of a posterior, and the only module that looks inside a latent.

A latent is a tensor [..., L], or for a hierarchy a tuple of tensors. A posterior is a
`tfd.Distribution` over latents; for tuples it is one of TFP's joint distributions.
"""

from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import nests, randomness

# The number and the seed of the draws that estimate moments without a closed form.
_NUM_DRAWS, _DRAW_SEED = 256, (0, 0)
# What TFP raises if a distribution, or a joint one with dependent parts, does not know a moment.
_UNKNOWN = (NotImplementedError, ValueError)


class Drawn(NamedTuple):
    """Latents of a hierarchy, and what was computed along with them. All have the same leading axes.

    A hierarchy computes p(x|z) and the densities of q on its way to a draw, so that bounds need not
    compute them again. Only operations that move all parts alike may be applied to it.

    Attributes:
        levels: the latent, a tuple of tensors [..., *event].
        parameters: parameters of p(x|z), [..., *shape].
        log_density: log q(z | y), [...], in nats.
        kl: KL(q || p) of each level, given the draws of the levels above, [..., levels], in nats.
        spreads: standard deviations of q of each level, given the draws above, as `levels`.
    """

    levels: tuple
    parameters: tf.Tensor
    log_density: tf.Tensor
    kl: tf.Tensor
    spreads: tuple


def alone(z):
    """Return latents without what was computed along with them."""
    return z.levels if isinstance(z, Drawn) else z


def draw_along(q: tfd.Distribution, *, seed: tf.Tensor, num_samples: int, origin=None):
    """Draw latents as `draw` does, and keep what a hierarchy computes along with them: see `Drawn`.

    Args:
        q, seed, num_samples: as for `draw`.
        origin: place of an input's first pixel in a larger picture, int32 [2]; for hierarchies only.
    """
    if hasattr(q, "draw"):
        return q.draw(seed=seed, num_samples=num_samples, origin=origin)
    return draw(q, seed=seed, num_samples=num_samples)


def mean_along(q: tfd.Distribution):
    """Return the mean of a posterior as `mean` does, and what a hierarchy computes along with it."""
    return q.mean_along() if hasattr(q, "mean_along") else mean(q)


def log_density(q: tfd.Distribution, z) -> tf.Tensor:
    """Return log q(z), [K, N], in nats, of latents that `draw_along` drew from q."""
    return z.log_density if isinstance(z, Drawn) else q.log_prob(z)


def draw(q: tfd.Distribution, *, seed: tf.Tensor, num_samples: int | None = None):
    """Draw reparameterised latents, so that gradients reach the parameters of the posterior.

    Args:
        q: a fully reparameterised distribution.
        seed: int32 tensor of shape [2].
        num_samples: K, or None for one sample without a sample axis.

    Returns:
        ``[K, *batch, *event]``, or ``[*batch, *event]``. Draws from the normal distributions of
        `layers` are the same with and without XLA.

    Raises:
        TypeError: if `q` is not a distribution.
        ValueError: if the distribution is not reparameterised.
    """
    if not isinstance(q, tfd.Distribution):
        raise TypeError(
            "An encoder must return a distribution: end it in a layer of dvae_tf.layers, for example "
            f"IndependentNormal. Received: {type(q).__name__}."
        )
    types = tf.nest.flatten(q.reparameterization_type)
    if any(kind != tfd.FULLY_REPARAMETERIZED for kind in types):
        raise ValueError(
            "The latent distribution must be reparameterised, for example IndependentNormal. "
            f"Received: {q!r}."
        )
    if is_normal(q):
        shape = tf.concat([q.batch_shape_tensor(), q.event_shape_tensor()], 0)
        if num_samples is not None:
            shape = tf.concat([[num_samples], shape], 0)
        return from_standard_normal(q, randomness.normal(shape, seed))
    return q.sample(() if num_samples is None else num_samples, seed=seed)


def is_normal(q: tfd.Distribution) -> bool:
    """Return whether `from_standard_normal` takes this distribution."""
    if isinstance(q, tfd.Independent):
        return isinstance(q.distribution, tfd.Normal)
    return isinstance(q, tfd.MultivariateNormalTriL)


def from_standard_normal(q: tfd.Distribution, eps: tf.Tensor) -> tf.Tensor:
    """Return mean + scale eps, which is a draw from the normal distribution q if eps ~ N(0, I)."""
    if isinstance(q, tfd.MultivariateNormalTriL):
        return q.loc + q.scale.matvec(eps)
    normal = q.distribution
    return normal.loc + normal.scale * eps


def knows_moments(q: tfd.Distribution) -> bool:
    """Return whether TFP knows the mean and the standard deviation of a distribution."""
    try:
        q.mean(), q.stddev()
    except _UNKNOWN:
        return False
    return True


def mean(q: tfd.Distribution):
    """Return the mean of a posterior, or the mean of 256 draws if TFP does not know it."""
    try:
        return q.mean()
    except _UNKNOWN:
        return tf.nest.map_structure(lambda z: tf.reduce_mean(z, 0), _draws(q))


def stddev(q: tfd.Distribution):
    """Return the standard deviation of a posterior, or of 256 draws if TFP does not know it."""
    try:
        return q.stddev()
    except _UNKNOWN:
        return tf.nest.map_structure(lambda z: tf.math.reduce_std(z, 0), _draws(q))


def _draws(q: tfd.Distribution):
    return q.sample(_NUM_DRAWS, seed=tf.constant(_DRAW_SEED, tf.int32))


def choose(z, component: tf.Tensor):
    """Select one of M latents: z [S, M, B, ...] and one-hot `component` [S, M, B] -> [S, B, ...]."""

    def one(x):
        weights = tf.reshape(
            component, tf.concat([tf.shape(component), [1] * (len(x.shape) - 3)], 0)
        )
        return tf.reduce_sum(x * weights, axis=1)

    return tf.nest.map_structure(one, z)


def shape_of(decoder) -> tuple | None:
    """Return the shape of the latent that a decoder takes, without the batch, or None if unknown.

    For a decoder with several inputs it is a tuple of shapes.
    """
    known = getattr(decoder, "latent_shape", None)
    if known is not None:
        return known
    shape = getattr(decoder, "input_shape", None)
    if isinstance(shape, dict) or not shape:
        return None
    shapes = [tuple(s[1:]) for s in (shape if isinstance(shape, list) else [shape])]
    if any(not s or None in s for s in shapes):
        return None
    return tuple(shapes) if isinstance(shape, list) else shapes[0]


def as_vectors(z) -> tf.Tensor:
    """Flatten latents to vectors, parts side by side: ``[B, *event] -> [B, L]``."""
    parts = [tf.reshape(x, [nests.batch_size(x), -1]) for x in tf.nest.flatten(z)]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def from_vectors(vectors: tf.Tensor, shape):
    """Return latents of a shape (see `shape_of`) from `as_vectors`: ``[..., L] -> [..., *event]``."""

    def one(x, event):
        if len(event) == 1:
            return x
        return tf.reshape(x, tf.concat([tf.shape(x)[:-1], event], axis=0))

    if not isinstance(shape[0], tuple):
        return one(vectors, shape)
    sizes = [int(tf.TensorShape(s).num_elements()) for s in shape]
    parts = tf.split(vectors, sizes, axis=-1)
    return tuple(one(x, s) for x, s in zip(parts, shape, strict=True))


def size_of(shape) -> int:
    """Return L, the number of values in a latent of this shape."""
    parts = shape if isinstance(shape[0], tuple) else (shape,)
    return sum(int(tf.TensorShape(s).num_elements()) for s in parts)
