"""The 8-bit scale of stored pixels. No other module knows that white is 255."""

import numpy as np
import tensorflow as tf

WHITE = 255
LEVELS = WHITE + 1
STEP = 1 / WHITE  # the distance of neighbouring grey levels, on the [0, 1] scale


def as_float(stored) -> np.ndarray:
    """Return stored images as float32 in [0, 1]."""
    images = np.asarray(stored)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(WHITE)
    return images.astype(np.float32, copy=False)


def as_float_in_graph(stored: tf.Tensor) -> tf.Tensor:
    """Return stored images, a tensor, as float32 in [0, 1]."""
    images = tf.cast(stored, tf.float32)
    return images / float(WHITE) if stored.dtype == tf.uint8 else images


def above(images: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Return stored binary images, white where a pixel exceeds the limit, given on [0, 1]."""
    return (as_float(images) > limit).astype(np.uint8) * WHITE


def in_8_bits(value: float) -> str:
    """Write a number on the [0, 1] scale in the familiar units of 8 bits: "25.5/255"."""
    return f"{value * WHITE:.3g}/{WHITE}"


def has_8_bit_scale(low: float, high: float) -> bool:
    """Return whether values from `low` to `high` look like 8 bits, not just slightly above 1."""
    return low >= 0 and 1.5 < high <= WHITE
