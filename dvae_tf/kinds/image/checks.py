"""The check of images that are passed to a model."""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import pixels


def as_images(x, model=None, *, clean: bool = False) -> tf.Tensor:
    """Return images as a float32 tensor [B, H, W, C].

    Args:
        x: images.
        model: a Keras model that takes them; their size must be that of its input, where it has one.
        clean: whether values outside [0, 1] are refused. In a graph there are none to look at.

    Raises:
        TypeError: if they are no array.
        ValueError: if they are not floats, whose scale would be unknown, or not such images.
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
    """Refuse an array or a tensor as `as_images` does, without a copy."""
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
            f"Images must be {size}, height, width and channels of the model's input. "
            f"Received: shape {tuple(shape)}. Resize them, or make a model for them."
        )


def _check_values(images: np.ndarray) -> None:
    if not images.size:
        return
    low, high = float(images.min()), float(images.max())  # NaN if there is one
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
