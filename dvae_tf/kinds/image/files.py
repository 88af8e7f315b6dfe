"""Images from a user's arrays: .npz and .npy files."""

import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from dvae_tf.kinds.image import pixels
from dvae_tf.streamed import DatasetError, Streamed, first_line

PAIRS = ("x_noisy", "x_clean")  # arrays of an .npz file

# Images [N, H, W, C], and labels [N] where they are known.
Examples = tuple[np.ndarray | Streamed, np.ndarray | Streamed | None]


class _Array(NamedTuple):
    """An array in a file, of which only the header has been read.

    Attributes:
        shape, dtype: shape and dtype.
        read: a function that reads the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def holds_pairs(path: str | os.PathLike) -> bool:
    """Return whether this is an .npz file with `x_noisy` and `x_clean`."""
    path = os.path.expanduser(path)
    if not os.fspath(path).endswith(".npz") or not os.path.isfile(path):  # a pipe would wait
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{key}.npy" for key in PAIRS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_pairs(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays `PAIRS` of an .npz file, with any values."""
    with _readable(path) as file, zipfile.ZipFile(file) as archive:
        parts = {key: _member(archive, key) for key in PAIRS}
        for key, part in parts.items():
            check_form(part.shape, part.dtype, f"{path}, array {key}", any_values=True)
        return {key: part.read() for key, part in parts.items()}


def load_npz(path: Path, *, any_values: bool = False) -> tuple[Examples, Examples | None]:
    """Load an .npz file.

    Args:
        path: its path.
        any_values: whether to return the values as they are, of whatever type of numbers.
    """
    with _readable(path) as file, zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        keys = ("x_train", "images", *(("x_noisy",) if any_values else ()))
        images = next((key for key in keys if key in names), None)
        if images is None:
            raise DatasetError(
                f"{path} must hold an array `images`, or `x_train` and `x_test`. "
                f"Received: {', '.join(names) or 'no arrays'}."
            )

        def find(images_key, labels_keys) -> tuple[_Array, _Array | None]:
            """Check the headers of images and labels."""
            found = _member(archive, images_key)
            check_form(
                found.shape, found.dtype, f"{path}, array {images_key}", any_values=any_values
            )
            labels_key = next((key for key in labels_keys if key in names), None)
            if labels_key is None:
                return found, None
            labels = _member(archive, labels_key)
            if labels.shape != found.shape[:1]:
                raise DatasetError(
                    f"{path} must hold one label for each of its {found.shape[0]} images. "
                    f"Received: labels of shape {labels.shape}."
                )
            if labels.dtype.kind not in "biufSU":
                raise _odd_labels(path, labels.dtype)
            return found, labels

        train = find(images, ("y_train", "labels"))
        test = find("x_test", ("y_test",)) if "x_test" in names else None
        if test is not None and _image_shape(test[0]) != _image_shape(train[0]):
            raise DatasetError(
                f"{path} must hold images of one shape. Received: {_image_shape(train[0])} in "
                f"{images} and {_image_shape(test[0])} in x_test."
            )
        if test is not None and (test[1] is None) != (train[1] is None):
            raise DatasetError(
                f"{path} must hold labels for both x_train and x_test, or for neither. "
                f"Received: {', '.join(names)}."
            )

        def read(key: str, found: tuple[_Array, _Array | None]) -> Examples:
            split_images = found[0].read()
            if not any_values:
                split_images = checked(split_images, f"{path}, array {key}")
            labels = None if found[1] is None else found[1].read()
            if labels is not None and labels.dtype.kind == "f":
                if not np.all(labels == labels.round()):
                    raise _odd_labels(path, labels.dtype)
                labels = labels.astype(np.int64)
            return split_images, labels

        return read(images, train), None if test is None else read("x_test", test)


def _image_shape(array: _Array) -> tuple[int, ...]:
    """Return the shape of an image: a missing last axis is one channel."""
    return array.shape[1:] if len(array.shape) == 4 else (*array.shape[1:], 1)


def _odd_labels(path: Path, dtype: np.dtype) -> DatasetError:
    return DatasetError(
        f"{path} must hold labels that are integers or words. Received: {dtype}. "
        "Convert them, or leave them out."
    )


def load_npy(path: Path, *, any_values: bool = False) -> tuple[Examples, None]:
    """Load an .npy file; the arguments are those of `load_npz`."""
    with _readable(path) as file:
        array = _array(file, path.stat().st_size)
        check_form(array.shape, array.dtype, str(path), any_values=any_values)
        images = array.read()
        return (images if any_values else checked(images, str(path)), None), None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and name it in every error of reading it."""
    if not path.is_file():  # opening a pipe would wait for a writer
        raise DatasetError(
            f"{path} must be a regular file. Received: a pipe, a socket or a device. Copy its "
            "content into a file."
        )
    try:
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            is_array = start == np.lib.format.MAGIC_PREFIX
            if is_array != (path.suffix == ".npy") and start[:4] in (
                b"PK\3\4",
                b"PK\5\6",
                b"\x93NUM",
            ):
                kind = "an .npy file" if is_array else "an .npz file"
                raise ValueError(f"{kind} by its content: rename it")
            yield file
    except DatasetError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types on a damaged file
        raise DatasetError(
            f"{path} must be a readable {path.suffix} file of plain arrays. "
            f"Received: {first_line(error)}."
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> _Array:
    """Read the header of an array in an .npz file."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"the member {name!r} is no array") from None
    with archive.open(info) as file:
        header = _array(file, info.file_size)

    def read() -> np.ndarray:
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return header._replace(read=read)


def _array(file: IO[bytes], size: int) -> _Array:
    """Read the header of an array; pickles are refused, so that no code in the file runs.

    Args:
        file: an .npy file.
        size: its size in bytes. The array must not need more.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"format {version} of arrays with named fields")
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    missing = file.tell() + math.prod(shape) * dtype.itemsize - size
    if missing > 0:
        raise ValueError(f"an array of shape {shape} that lacks {missing} bytes")

    def read() -> np.ndarray:
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)

    return _Array(shape, dtype, read)


def check_form(
    shape: tuple[int, ...], dtype: np.dtype, where: str, *, any_values: bool = False
) -> None:
    """Refuse a shape or a dtype that images [N, H, W] or [N, H, W, C] cannot have.

    Args:
        shape, dtype: shape and dtype.
        where: the place they come from, for messages.
        any_values: whether to accept integers of any type.

    Raises:
        DatasetError: if one is wrong.
    """
    if len(shape) not in (3, 4) or 0 in shape:
        raise DatasetError(
            f"Images in {where} must have shape [N, height, width] or [N, height, width, channels], "
            f"without zeros. Received: shape {shape}. Reshape flat vectors first."
        )
    if any_values and dtype.kind in "iu":
        return
    if dtype not in (np.bool_, np.uint8) and not np.issubdtype(dtype, np.floating):
        raise DatasetError(
            f"Images in {where} must be uint8 in 0..{pixels.WHITE}, bool, or floats in [0, 1]. "
            f"Received: {dtype}. Convert them."
        )


def _with_channel(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else images[..., None]


def checked(images: np.ndarray, where: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C].

    Args:
        images: array [N, H, W] or [N, H, W, C].
        where: the place they come from, for messages.

    Raises:
        DatasetError: if shape, dtype or values are wrong.
    """
    check_form(images.shape, images.dtype, where)
    images = _with_channel(images)
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * pixels.WHITE
    if images.dtype == np.uint8:
        return images
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise DatasetError(
            f"Images in {where} must be finite. Received: NaN or infinity in {bad.sum()} of "
            f"{len(images)} images, first in image {bad.argmax()}. Remove or repair them."
        )
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        remedy = (
            f"Divide by {pixels.WHITE}."
            if pixels.has_8_bit_scale(low, high)
            else "Rescale or clip them."
        )
        raise DatasetError(
            f"Images in {where} must be floats in [0, 1]. "
            f"Received: values from {low:.9g} to {high:.9g}. {remedy}"
        )
    return images.astype(np.float32)
