"""Checks of the images that are passed to a model."""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import pixels


def as_images(x, model=None, *, clean: bool = False) -> tf.Tensor:
    """Return images as a float32 tensor [B, H, W, C].

    Args:
        x: images.
        model: a Keras model that takes them. If its input has a fixed size, they must have it.
        clean: whether to refuse values outside [0, 1]. Symbolic tensors of a graph have no values.

    Raises:
        TypeError: if `x` is a dictionary.
        ValueError: if they are not floats, have the wrong shape, or `clean` values are out of range.
            Integers are refused because their scale would be a guess.
    """
    if isinstance(x, Mapping):
        raise TypeError(
            "Images must be an array [batch, height, width, channels]. "
            f"Received: a dictionary of {', '.join(map(str, x))}. "
            "Take the images out of it: dataset.map(lambda example: example['image'])."
        )
    images = tf.convert_to_tensor(x)
    check(images, model, clean=clean)
    return tf.cast(images, tf.float32)


def check(images: np.ndarray | tf.Tensor, model=None, *, clean: bool = False) -> None:
    """Make the checks of `as_images` on an array or a tensor, without copying it."""
    dtype = tf.as_dtype(images.dtype)
    if not dtype.is_floating:
        remedy = (
            "Convert them to float32."
            if dtype == tf.bool
            else f"Divide 8-bit images by {pixels.WHITE}."
        )
        raise ValueError(f"Images must be floats in [0, 1]. Received: dtype {dtype.name}. {remedy}")
    _check_shape(tf.TensorShape(images.shape), getattr(model, "input_shape", None))
    if clean and not tf.is_symbolic_tensor(images):
        _check_values(np.asarray(images))


def _check_shape(shape: tf.TensorShape, expected) -> None:
    if shape.rank is None:
        return
    if shape.rank != 4:
        remedy = {
            2: "Reshape flat vectors.",
            3: "Add the channel, x[..., None], or for a single image the batch, x[None].",
        }.get(shape.rank, "Reshape them.")
        raise ValueError(
            f"Images must be [batch, height, width, channels]. Received: shape {tuple(shape)}. {remedy}"
        )
    if isinstance(expected, tuple) and not shape[1:].is_compatible_with(expected[1:]):
        size = " x ".join(str(length or "any") for length in expected[1:])
        raise ValueError(
            f"Images must be {size} (height, width, channels), as the model's input is. "
            f"Received: shape {tuple(shape)}. Resize them, or make a model for them."
        )


def _check_values(images: np.ndarray) -> None:
    if not images.size:
        return
    low, high = float(images.min()), float(images.max())  # NaN if any value is
    if low >= 0 and high <= 1:
        return
    if not math.isfinite(high - low):
        raise ValueError(
            "Images must be finite. Received: NaN or infinity in them. Remove or repair them."
        )
    remedy = (
        f"Divide them by {pixels.WHITE}."
        if pixels.has_8_bit_scale(low, high)
        else "Rescale or clip them."
    )
    raise ValueError(
        f"Images must be floats in [0, 1]. Received: values from {low:.9g} to {high:.9g}. {remedy}"
    )
