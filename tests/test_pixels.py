"""Stored pixels and the scale of models."""

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import Image, pixels
from dvae_tf.kinds.image.files import checked

LEVELS = np.arange(256, dtype=np.uint8)


def test_levels_have_one_value_in_arrays_and_in_graphs():
    for found in (pixels.as_float(LEVELS), pixels.as_float_in_graph(tf.constant(LEVELS))):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.arange(256) / 255, rtol=1e-6)


def test_binary_is_what_exceeds_the_limit():
    """So a white pixel is always drawn white, and a black one never: draws are in [0, 1)."""
    assert pixels.above(np.array([0.0, 0.5, 0.75]), 0.5).tolist() == [0, 0, 255]
    assert pixels.above(np.array([0.0, 1.0]), np.array([0.0, 1 - 2**-24])).tolist() == [0, 255]
    half = np.full((1, 1, 1, 1), 0.5, np.float32)
    assert Image().binarized(half, "threshold").item() == 0


def test_boolean_images_are_black_and_white():
    bits = np.array([[[False, True]]])
    assert checked(bits, "x").ravel().tolist() == [0, 255]
