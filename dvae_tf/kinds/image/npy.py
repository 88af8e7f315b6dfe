"""Arrays in .npy files as pictures.

The number of axes says what they are:

    [H, W]          a grey picture
    [H, W, C]       a picture, if C is at most 4
    [N, H, W]       otherwise: a stack of N grey pictures
    [N, H, W, C]    a stack

A stack of grey pictures at most four pixels wide needs its last axis, [N, H, W, 1].
"""

import dataclasses
import os

import numpy as np

from dvae_tf.kinds.image.picture import Header, Picture
from dvae_tf.streamed import DatasetError

SUFFIXES = (".npy",)
SIGNATURE = np.lib.format.MAGIC_PREFIX
_MAX_CHANNELS = 4


@dataclasses.dataclass(frozen=True)
class Form:
    """Shape of the array."""

    shape: tuple[int, ...]


def header(path: str | os.PathLike) -> Header:
    """Return shape and type, without reading the values; errors as `read`."""
    array = _mapped(path)
    dtype = np.dtype(np.uint8) if array.dtype == np.bool_ else array.dtype.newbyteorder("=")
    return Header(_as_pages(array.shape), dtype)


def read(path: str | os.PathLike) -> Picture:
    """Read a picture. True becomes 255, and is written as such.

    Raises:
        DatasetError: if the array has other axes, or no real numbers.
        Exception: any of NumPy's, if the file is damaged.
    """
    array = _mapped(path)
    shape, dtype = header(path)
    pages = np.array(array, dtype, order="C")
    if array.dtype == np.bool_:
        pages *= 255
    return Picture(pages.reshape(shape), None, Form(array.shape))


def write(target: str | os.PathLike, picture: Picture) -> None:
    """Write a picture as an array of the shape that was read."""
    with open(target, "wb") as file:
        np.save(file, picture.pages.reshape(picture.form.shape), allow_pickle=False)


def _mapped(path: str | os.PathLike) -> np.ndarray:
    """Return the array, of which only the header is read; pickles are refused by NumPy."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DatasetError(
            f"{os.fspath(path)} must hold [H, W], [H, W, C] or [N, H, W, C], without zeros. "
            f"Received: shape {array.shape}. Reshape it."
        )
    if array.dtype.kind not in "buif":
        raise DatasetError(
            f"{os.fspath(path)} must hold real numbers. Received: {array.dtype}. Convert them."
        )
    return array


def _as_pages(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return (pages, height, width, channels)."""
    if len(shape) == 2:
        return (1, *shape, 1)  # type: ignore[return-value]
    if len(shape) == 3:
        is_one = shape[-1] <= _MAX_CHANNELS
        return (1, *shape) if is_one else (*shape, 1)  # type: ignore[return-value]
    return shape  # type: ignore[return-value]
