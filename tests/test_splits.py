"""Splits in memory; tests/test_datasets.py has those of files."""

import numpy as np

from dvae_tf.data import splits


def test_the_mean_is_that_of_all_examples_in_memory(rng):
    images = rng.random((1200, 2, 3, 1), np.float32)
    images[1000:] += 1  # of streamed examples a thousand are averaged
    mean = splits.mean_example(splits.Split(images))
    np.testing.assert_allclose(mean, images.mean(axis=0, dtype=np.float64), rtol=1e-6)
