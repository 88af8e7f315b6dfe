"""A projected-gradient attack on a denoiser: the worst noise of a given size, not random noise."""

import tensorflow as tf

from dvae_tf import randomness


def _norm(x: tf.Tensor) -> tf.Tensor:
    """The L2 norm of each image: [B, 1, 1, 1]."""
    return tf.sqrt(tf.reduce_sum(tf.square(x), axis=[1, 2, 3], keepdims=True) + 1e-20)


def projected_gradient(
    denoiser, images, *, sizes, num_steps: int = 20, seed: int = 0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the perturbation of a given L2 size that spoils the denoised image most.

    Ascends the squared error of denoiser(x + delta) against x, from a random direction, with steps
    of half the size and projection on the ball. Source: Madry et al. (2018), arXiv:1706.06083, in
    the L2 norm; on a linear denoiser long steps are the power method.

    Args:
        denoiser: differentiable, from images [B, H, W, C] to images.
        images: clean, [B, H, W, C].
        sizes: L2 norm of the perturbation of each image, [B].
        num_steps: steps of ascent.
        seed: of the random directions.

    Returns:
        the attacked images, and images with random noise of the same size.
    """
    x = tf.convert_to_tensor(images, tf.float32)
    size = tf.reshape(tf.cast(sizes, tf.float32), [-1, 1, 1, 1])
    direction = randomness.normal(tf.shape(x), randomness.as_seed(seed))
    start = size * direction / _norm(direction)

    @tf.function(autograph=False)
    def ascend(delta):
        with tf.GradientTape() as tape:
            tape.watch(delta)
            error = tf.reduce_sum(tf.square(denoiser(x + delta) - x))
        gradient = tape.gradient(error, delta)
        delta += 0.5 * size * gradient / _norm(gradient)
        return delta * tf.minimum(1.0, size / _norm(delta))

    delta = start
    for _ in range(num_steps):
        delta = ascend(delta)
    return x + delta, x + start
