"""The signature `denoise_png` of a served model: image files in, PNG files out.

Files have 8 bits a channel. A model of two channels lacks this signature, because a PNG cannot hold
two colour channels.
"""

import io
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import pixels

_CHANNELS = (1, 3, 4)  # what a PNG can hold
_INPUT = "image_bytes"

# Tensor -> its meaning, and [least value, greatest value] or None.
MEANINGS: dict[str, tuple[str, list[float | None]]] = {
    _INPUT: ("PNG or JPEG files", [None, None]),
    "denoised_bytes": ("PNG files of the denoised images", [None, None]),
}


def signatures(
    denoise: Callable, spec: tf.TensorSpec
) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
    """Return `denoise_png`, as `Kind.signatures` does; empty if a PNG cannot hold the images."""
    shape = spec.shape[1:]
    if shape[-1] not in _CHANNELS:
        return {}

    def decode(content):
        image = tf.io.decode_image(content, shape[-1], expand_animations=False)
        return pixels.as_float_in_graph(tf.ensure_shape(image, shape))

    def denoise_png(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, [None])
        row = tf.TensorSpec(shape, tf.float32)
        # One at a time: a small file may decode to a very large image before it is refused.
        images = tf.map_fn(decode, image_bytes, parallel_iterations=1, fn_output_signature=row)
        clipped = tf.clip_by_value(denoise(images)["denoised"], 0.0, 1.0)
        levels = tf.cast(tf.round(clipped * pixels.WHITE), tf.uint8)
        encoded = tf.map_fn(tf.io.encode_png, levels, fn_output_signature=tf.string)
        return {"denoised_bytes": encoded}

    return {"denoise_png": (denoise_png, {_INPUT: tf.TensorSpec([None], tf.string)})}


def inputs(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return images as the files that `denoise_png` takes; empty if a PNG cannot hold them."""
    if images.shape[-1] not in _CHANNELS:
        return {}
    levels = np.round(images * pixels.WHITE).astype(np.uint8)
    return {_INPUT: np.array([tf.io.encode_png(image).numpy() for image in levels])}


def tolerance(rounding: float) -> dict[str, float]:
    """Return how far files may differ, in grey levels; rounding alone may shift a pixel by one.

    Args:
        rounding: how far outputs on the [0, 1] scale may differ because of 16-bit layers.
    """
    return {"relative": 0.0, "absolute": 1.0 + pixels.WHITE * rounding}


def check_sizes(inputs: Mapping[str, tf.Tensor], spec: tf.TensorSpec) -> None:
    """Refuse files of another size by their headers, before they are decoded.

    Args:
        inputs: tensors by name.
        spec: spec of a batch of the model's images.

    Raises:
        ValueError: if a file has another size; the message is one line.
    """
    if _INPUT not in inputs:
        return
    from PIL import Image

    height, width = spec.shape[1:3]
    for index, content in enumerate(inputs[_INPUT].numpy()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of large images; we check the size
                size = Image.open(io.BytesIO(content)).size
        except Image.DecompressionBombError as error:
            raise ValueError(f"`{_INPUT}` must hold small images: {error}") from error
        except Exception:  # Pillow raises many types; decoding the file will say what is wrong
            continue
        if size != (width, height):
            raise ValueError(
                f"`{_INPUT}` must hold images of {width} x {height} pixels: received "
                f"{size[0]} x {size[1]} in row {index}"
            )
