"""A projected-gradient attack on a denoiser, which looks for the worst noise of a given size."""

import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.kinds.kind import Example


def projected_gradient(
    denoiser, examples: Example, *, sizes, num_steps: int = 20, seed: int = 0
) -> tuple[Example, Example]:
    """Search for the perturbation of a given L2 size that spoils the denoised example most.

    The attack ascends ||denoiser(x + delta) - x||^2 from a random direction. Each step has half the
    size, and is followed by a projection onto the ball. On a linear denoiser such long steps amount
    to the power method. Source: Madry et al. (2018), arXiv:1706.06083, in the L2 norm.

    Args:
        denoiser: a differentiable function from examples [B, ...] to examples.
        examples: clean examples, [B, ...], a nest of arrays or tensors.
        sizes: L2 norm of the perturbation of each example, over all its parts, [B].
        num_steps: number of steps.
        seed: seed of the random directions.

    Returns:
        the attacked examples, and the examples with random noise of the same size.
    """
    x = tf.nest.map_structure(lambda part: tf.convert_to_tensor(part, tf.float32), examples)
    size = tf.nest.map_structure(lambda part: _per_row(tf.cast(sizes, tf.float32), part), x)
    half = tf.nest.map_structure(lambda length: 0.5 * length, size)
    start = _along(_random_direction(x, randomness.as_seed(seed)), size)

    @tf.function(autograph=False)
    def ascend(delta):
        with tf.GradientTape() as tape:
            tape.watch(delta)
            denoised = denoiser(tf.nest.map_structure(tf.add, x, delta))
            errors = tf.nest.map_structure(lambda a, b: tf.square(a - b), denoised, x)
            error = tf.add_n([tf.reduce_sum(part) for part in tf.nest.flatten(errors)])
        gradient = tape.gradient(error, delta)
        delta = tf.nest.map_structure(tf.add, delta, _along(gradient, half))
        return tf.nest.map_structure(
            lambda part, length, norm: part * tf.minimum(1.0, length / norm),
            delta,
            size,
            _norm(delta),
        )

    delta = start
    for _ in range(num_steps):
        delta = ascend(delta)
    return tf.nest.map_structure(tf.add, x, delta), tf.nest.map_structure(tf.add, x, start)


def _random_direction(x: Example, seed: tf.Tensor) -> Example:
    if not tf.nest.is_nested(x):
        return randomness.normal(tf.shape(x), seed)
    draws = [
        randomness.normal(tf.shape(part), randomness.fold_in(seed, index))
        for index, part in enumerate(tf.nest.flatten(x))
    ]
    return tf.nest.pack_sequence_as(x, draws)


def _along(direction: Example, size: Example) -> Example:
    """Scale the direction of each example, [B, ...], to an L2 norm of `size`."""
    return tf.nest.map_structure(
        lambda part, length, norm: length * part / norm, direction, size, _norm(direction)
    )


def _norm(x: Example) -> Example:
    """Return the L2 norm of each example over all its parts; it broadcasts against every part."""
    squares = [
        tf.reduce_sum(tf.square(part), axis=list(range(1, part.shape.rank)))  # [B]
        for part in tf.nest.flatten(x)
    ]
    total = tf.add_n(squares)
    return tf.nest.map_structure(lambda part: tf.sqrt(_per_row(total, part) + 1e-20), x)


def _per_row(values: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Reshape [B] to [B, 1, ...], to broadcast against a part [B, ...]."""
    return tf.reshape(values, [-1] + [1] * (part.shape.rank - 1))
