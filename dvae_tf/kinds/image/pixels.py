"""The scales of stored pixels. No other module knows that white is 255."""

import numpy as np
import tensorflow as tf

WHITE = 255
WHITE_16 = 65535
LEVELS = WHITE + 1
STEP = 1 / WHITE  # the distance of neighbouring grey levels, on the [0, 1] scale


def white(dtype) -> int | None:
    """Return the stored value of white: 255 or 65535; None for floats, whose white is 1."""
    return {"uint8": WHITE, "uint16": WHITE_16}.get(tf.as_dtype(dtype).name)


def as_float(stored) -> np.ndarray:
    """Return stored images as float32, on the scale on which white is 1."""
    images = np.asarray(stored)
    if (greatest := white(images.dtype)) is not None:
        return images.astype(np.float32) / np.float32(greatest)
    return images.astype(np.float32, copy=False)


def as_float_in_graph(stored: tf.Tensor) -> tf.Tensor:
    """Return stored images, a tensor, as float32, on the scale on which white is 1."""
    images = tf.cast(stored, tf.float32)
    greatest = white(stored.dtype)
    return images if greatest is None else images / float(greatest)


def mean(stored) -> np.ndarray:
    """Return the mean of stored images on the scale on which white is 1: float64 [H, W, C].

    Pixels that are NaN are left out; where all are, the mean is 0.
    """
    images = np.asarray(stored)
    average = images.mean(axis=0, dtype=np.float64)
    if np.isnan(average).any():
        is_known = ~np.isnan(images)
        total = images.sum(axis=0, dtype=np.float64, where=is_known)
        average = total / np.maximum(is_known.sum(axis=0), 1)
    greatest = white(images.dtype)
    return average if greatest is None else average / greatest


def above(images: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Return stored binary images, white where a pixel exceeds the limit, given on [0, 1]."""
    return (as_float(images) > limit).astype(np.uint8) * WHITE


def in_8_bits(value: float) -> str:
    """Write a number on the [0, 1] scale in the familiar units of 8 bits: "25.5/255"."""
    return f"{value * WHITE:.3g}/{WHITE}"


def has_8_bit_scale(low: float, high: float) -> bool:
    """Return whether values from `low` to `high` look like 8 bits, not just slightly above 1."""
    return low >= 0 and 1.5 < high <= WHITE
