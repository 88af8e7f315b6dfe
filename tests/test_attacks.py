import numpy as np
import pytest
import tensorflow as tf

from dvae_tf.evaluation import attacks

# Shapes of what has twelve values.
EXAMPLES = {
    "image": (3, 4, 1),
    "vector": (12,),
    "nest": {"a": (5,), "b": (7, 1)},
}


def as_example(flat, shape):
    """[B, 12] -> a nest of tensors [B, ...]."""
    if isinstance(shape, tuple):
        return tf.reshape(flat, [-1, *shape])
    return {"a": flat[:, :5], "b": flat[:, 5:, tf.newaxis]}


def as_flat(example):
    return tf.concat([tf.reshape(x, [x.shape[0], -1]) for x in tf.nest.flatten(example)], axis=1)


@pytest.mark.parametrize("shape", EXAMPLES.values(), ids=EXAMPLES)
def test_finds_the_worst_direction_of_a_linear_denoiser(shape, rng):
    """For y = x A the worst noise of a size is A's leading singular vector."""
    left, _, right = np.linalg.svd(rng.normal(size=(12, 12)))
    matrix = ((left * np.linspace(3, 0, 12) ** 2) @ right).astype(np.float32)
    denoise = lambda x: as_example(as_flat(x) @ matrix, shape)  # noqa: E731
    # Around zero, where the clean example itself adds no error.
    clean = as_example(np.zeros((5, 12), np.float32), shape)
    sizes = np.array([0.1, 0.5, 1.0, 2.0, 3.0])
    attacked, random = attacks.projected_gradient(denoise, clean, sizes=sizes, num_steps=40)
    for noisy in (attacked, random):
        norms = np.linalg.norm(as_flat(noisy), axis=1)
        np.testing.assert_allclose(norms, sizes, rtol=1e-4)
    error = np.linalg.norm(as_flat(denoise(attacked)), axis=1)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(error, largest * sizes, rtol=0.02)
    assert np.all(error > 1.2 * np.linalg.norm(as_flat(denoise(random)), axis=1))


def test_the_error_is_that_against_the_clean_example():
    """f(x) = x / 2 at x = 1: (1 + d)/2 is farthest from 1 at d < 0; f(1 + d) from f(1) at both."""
    clean, sizes = np.ones((16, 1), np.float32), np.full(16, 0.5)
    attacked, random = attacks.projected_gradient(lambda x: x / 2, clean, sizes=sizes)
    assert {0.5, 1.5} == set(np.round(random.numpy().ravel(), 5).tolist())
    np.testing.assert_allclose(attacked, 0.5 * clean, rtol=1e-6)
