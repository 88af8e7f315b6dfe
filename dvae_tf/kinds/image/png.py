"""The signature `denoise_png` of a served model: image files in, PNG files out.

Files have 8 bits a channel, and are read as every viewer shows them or refused (see `headers`). A
model of two channels lacks this signature, because a PNG cannot hold two colour channels.

A model of images of any size denoises the files of a request one after the other, so that each may
have a size of its own. Together they have at most `headers.MAX_PIXELS` pixels.
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

    def denoise_png(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, [None])
        row = tf.TensorSpec(shape, tf.float32)
        images = tf.map_fn(
            lambda content: _decode(headers_in_graph.read(content, *shape), shape),
            image_bytes,
            fn_output_signature=row,
        )
        encoded = tf.map_fn(
            tf.io.encode_png, _levels(denoise(images)), fn_output_signature=tf.string
        )
        return {"denoised_bytes": encoded}

    def denoise_png_of_any_size(image_bytes):
        files = tf.map_fn(
            lambda content: headers_in_graph.read(content, *shape),
            tf.ensure_shape(image_bytes, [None]),
            fn_output_signature=_FILE,
        )
        total = tf.reduce_sum(files.num_pixels)
        is_small = tf.debugging.Assert(
            total <= headers.MAX_PIXELS, [_must_hold(tf.constant(headers.PIXELS))]
        )

        def one(file):
            image = _decode(file, shape)
            return tf.io.encode_png(_levels(denoise(image[tf.newaxis]))[0])

        with tf.control_dependencies([is_small]):
            # One at a time, so that only one takes memory.
            encoded = tf.map_fn(one, files, fn_output_signature=tf.string, parallel_iterations=1)
        return {"denoised_bytes": encoded}

    function = denoise_png_of_any_size if None in shape else denoise_png
    return {"denoise_png": (function, {INPUT: tf.TensorSpec([None], tf.string)})}


# What `headers_in_graph.read` returns.
_FILE = headers_in_graph.File(
    content=tf.TensorSpec([], tf.string),
    is_png=tf.TensorSpec([], tf.bool),
    has_alpha=tf.TensorSpec([], tf.bool),
    reason=tf.TensorSpec([], tf.string),
    num_pixels=tf.TensorSpec([], tf.int64),
)


def _decode(file: headers_in_graph.File, shape: tf.TensorShape) -> tf.Tensor:
    """Return the image in a file, float32 on [0, 1]; refuse a file that may not be decoded."""
    is_good = tf.debugging.Assert(file.reason == b"", [_must_hold(file.reason)])
    with tf.control_dependencies([is_good]):
        image = tf.cond(
            file.is_png,
            lambda: _decode_png(file, shape[-1]),
            lambda: tf.io.decode_jpeg(file.content, min(shape[-1], 3)),
        )
    return pixels.as_float_in_graph(tf.ensure_shape(image, shape))


def _levels(answer) -> tf.Tensor:
    """Return denoised images as 8-bit grey levels."""
    clipped = tf.clip_by_value(answer["denoised"], 0.0, 1.0)
    return tf.cast(tf.round(clipped * pixels.WHITE), tf.uint8)


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
    *size, channels = spec.shape[1:]
    total = 0
    for row, content in enumerate(files.numpy()):
        try:
            height, width = headers.size(content) if None in size else size
            total += height * width
            if None in size and total > headers.MAX_PIXELS:
                raise ValueError(headers.PIXELS)
            result.append(headers.plain(content, height, width, channels))
        except ValueError as error:
            raise ValueError(f"{_must_hold(str(error))} in row {row}") from error
    return tf.constant(result, tf.string, [len(result)])
