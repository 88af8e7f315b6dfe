import numpy as np
import tensorflow as tf

from dvae_tf.evaluation import attacks


def test_finds_the_worst_direction_of_a_linear_denoiser(rng):
    """For y = x A the worst noise of a size is A's leading singular vector."""
    left, _, right = np.linalg.svd(rng.normal(size=(12, 12)))
    matrix = ((left * np.linspace(3, 0, 12) ** 2) @ right).astype(np.float32)
    flat = lambda x: tf.reshape(tf.reshape(x, [-1, 12]) @ matrix, [-1, 3, 4, 1])  # noqa: E731
    # Around zero, where the clean image itself adds no error.
    clean = np.zeros((5, 3, 4, 1), np.float32)
    sizes = np.array([0.1, 0.5, 1.0, 2.0, 3.0])
    attacked, random = attacks.projected_gradient(flat, clean, sizes=sizes, num_steps=40)
    for images in (attacked, random):
        norms = np.linalg.norm((images - clean).numpy().reshape(5, -1), axis=1)
        np.testing.assert_allclose(norms, sizes, rtol=1e-4)
    error = np.linalg.norm(flat(attacked).numpy().reshape(5, -1), axis=1)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(error, largest * sizes, rtol=0.02)
    assert np.all(error > 1.2 * np.linalg.norm(flat(random).numpy().reshape(5, -1), axis=1))
