"""The signature `denoise_png` of a served model: image files in, PNG files out.

Files have 8 bits a channel, and are read as every viewer shows them or refused (see `headers`). A
model of two channels lacks this signature, because a PNG cannot hold two colour channels.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import headers, headers_in_graph, pixels

_CHANNELS = (1, 3, 4)  # what a PNG can hold
INPUT = "image_bytes"

# Tensor -> its meaning, and [least value, greatest value] or None.
MEANINGS: dict[str, tuple[str, list[float | None]]] = {
    INPUT: ("PNG or JPEG files", [None, None]),
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
        file = headers_in_graph.read(content, *shape)
        is_good = tf.debugging.Assert(file.reason == b"", [_must_hold(file.reason)])
        with tf.control_dependencies([is_good]):
            image = tf.cond(
                file.is_png,
                lambda: _decode_png(file, shape[-1]),
                lambda: tf.io.decode_jpeg(file.content, min(shape[-1], 3)),
            )
        return pixels.as_float_in_graph(tf.ensure_shape(image, shape))

    def denoise_png(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, [None])
        row = tf.TensorSpec(shape, tf.float32)
        images = tf.map_fn(decode, image_bytes, fn_output_signature=row)
        clipped = tf.clip_by_value(denoise(images)["denoised"], 0.0, 1.0)
        levels = tf.cast(tf.round(clipped * pixels.WHITE), tf.uint8)
        encoded = tf.map_fn(tf.io.encode_png, levels, fn_output_signature=tf.string)
        return {"denoised_bytes": encoded}

    return {"denoise_png": (denoise_png, {INPUT: tf.TensorSpec([None], tf.string)})}


def _decode_png(file: headers_in_graph.File, channels: int) -> tf.Tensor:
    """Decode a PNG. The decoder drops alpha that the model has no channel for: it must be opaque."""
    if channels == 4:
        return tf.io.decode_png(file.content, 4)

    def is_opaque():
        return tf.reduce_all(tf.io.decode_png(file.content, 4)[..., 3] == pixels.WHITE)

    is_opaque = tf.cond(file.has_alpha, is_opaque, lambda: tf.constant(True))
    with tf.control_dependencies([tf.debugging.Assert(is_opaque, [_must_hold(headers.OPAQUE)])]):
        return tf.io.decode_png(file.content, channels)


def _must_hold(reason):
    return f"`{INPUT}` must hold " + reason


def inputs(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return images as the files that `denoise_png` takes; empty if a PNG cannot hold them."""
    if images.shape[-1] not in _CHANNELS:
        return {}
    levels = np.round(images * pixels.WHITE).astype(np.uint8)
    return {INPUT: np.array([tf.io.encode_png(image).numpy() for image in levels])}


def tolerance(rounding: float) -> dict[str, float]:
    """Return how far files may differ, in grey levels; rounding alone may shift a pixel by one.

    Args:
        rounding: how far outputs on the [0, 1] scale may differ because of 16-bit layers.
    """
    return {"relative": 0.0, "absolute": 1.0 + pixels.WHITE * rounding}


def plain(files: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Return files without what a decoder need not read; refuse them by their headers.

    Args:
        files: strings, [B].
        spec: spec of a batch of the model's images.

    Raises:
        ValueError: if a file does not hold such an image; the message is one line.
    """
    result = []
    for row, content in enumerate(files.numpy()):
        try:
            result.append(headers.plain(content, *spec.shape[1:]))
        except ValueError as error:
            raise ValueError(f"{_must_hold(str(error))} in row {row}") from error
    return tf.constant(result, tf.string, [len(result)])
