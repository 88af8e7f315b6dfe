"""Images from a user's files: .npz, .npy, and folders of image files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import pixels
from dvae_tf.streamed import DatasetError, Streamed, first_line, read_row

# Images [N, H, W, C], and labels [N] where they are known.
Examples = tuple[np.ndarray | Streamed, np.ndarray | Streamed | None]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def load_npz(path: Path) -> tuple[Examples, Examples | None]:
    arrays = _read_numpy(path)
    images = next((key for key in ("x_train", "images") if key in arrays), None)
    if images is None:
        raise DatasetError(
            f"{path} must hold an array `images`, or `x_train` and `x_test`. "
            f"Received: {', '.join(arrays) or 'no arrays'}."
        )

    def read(images_key, labels_keys) -> Examples:
        split_images = checked(arrays[images_key], f"{path}, array {images_key}")
        labels = next((arrays[key] for key in labels_keys if key in arrays), None)
        if labels is not None and labels.shape != split_images.shape[:1]:
            raise DatasetError(
                f"{path} must hold one label for each of its {len(split_images)} images. "
                f"Received: labels of shape {labels.shape}."
            )
        if labels is not None and labels.dtype.kind == "f" and np.all(labels == labels.round()):
            labels = labels.astype(np.int64)
        if labels is not None and labels.dtype.kind not in "biuSU":
            raise DatasetError(
                f"{path} must hold labels that are integers or words. Received: {labels.dtype}. "
                "Convert them, or leave them out."
            )
        return split_images, labels

    train = read(images, ("y_train", "labels"))
    test = read("x_test", ("y_test",)) if "x_test" in arrays else None
    if test is not None and test[0].shape[1:] != train[0].shape[1:]:
        raise DatasetError(
            f"{path} must hold images of one shape. Received: {train[0].shape[1:]} in {images} "
            f"and {test[0].shape[1:]} in x_test."
        )
    if test is not None and (test[1] is None) != (train[1] is None):
        raise DatasetError(
            f"{path} must hold labels for both x_train and x_test, or for neither. "
            f"Received: {', '.join(arrays)}."
        )
    return train, test


def load_npy(path: Path) -> tuple[Examples, None]:
    return (checked(_read_numpy(path)[""], str(path)), None), None


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; the array of an .npy is called "".

    Pickles are refused, so that no code in the file runs.
    """
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            is_array = isinstance(content, np.ndarray)
            if is_array != (path.suffix == ".npy"):
                kind = "an .npy file" if is_array else "an .npz file"
                raise ValueError(f"{kind} by its content: rename it")
            arrays = {"": content} if is_array else dict(content)
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise ValueError(f"the member {name!r} is no array")
            return arrays
    except Exception as error:  # NumPy raises many types on a damaged file
        raise DatasetError(
            f"{path} must be a readable {path.suffix} file of plain arrays. "
            f"Received: {first_line(error)}."
        ) from error


def load_folder(path: Path) -> tuple[Examples, None]:
    # Names that begin with a dot belong to the operating system, whatever their suffix.
    found = [
        p
        for p in path.rglob("*")
        if not any(part.startswith(".") for part in p.relative_to(path).parts) and p.is_file()
    ]
    files = sorted(p for p in found if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        others = ", ".join(sorted({p.suffix for p in found if p.suffix})[:5])
        raise DatasetError(
            f"{path} must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: a folder without any"
            + (f", but with {others}. Convert images to one of these." if others else ".")
        )
    # Sub-folders are labels.
    labels = None
    if all(file.parent != path for file in files):
        _, labels = np.unique([file.parent.name for file in files], return_inverse=True)
    return (image_files(files), labels), None


def checked(images: np.ndarray, where: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C].

    Args:
        images: array [N, H, W] or [N, H, W, C].
        where: the place they come from, for messages.

    Raises:
        DatasetError: if shape, dtype or values are wrong.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DatasetError(
            f"Images in {where} must have shape [N, height, width] or [N, height, width, channels], "
            f"without zeros. Received: shape {images.shape}. Reshape flat vectors first."
        )
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * pixels.WHITE
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DatasetError(
            f"Images in {where} must be uint8 in 0..{pixels.WHITE}, bool, or floats in [0, 1]. "
            f"Received: {images.dtype}. Convert them."
        )
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


def image_files(files: Sequence[Path]) -> Streamed:
    """Return the images in files, all of one size: uint8 [N, H, W, C].

    All headers are read. Only one file for each distinct header is decoded.

    Raises:
        DatasetError: if one of these files is damaged, or has another shape than the first file.
    """
    keys = np.array([os.fsencode(file) for file in files])
    first = read_row(_read_image, keys[0], os.fsdecode)
    images = Streamed(keys, _read_image, os.fsdecode, tf.TensorSpec(first.shape, tf.uint8))
    kinds: dict = {}
    for index, file in enumerate(files):
        kinds.setdefault(_kind(file) or file, index)
    images[list(kinds.values())].check()
    return images


def _kind(file: Path) -> tuple | None:
    """Return what a file's header says about the image's shape; None if Pillow cannot read it."""
    import PIL.Image

    try:
        with PIL.Image.open(file) as image:
            return image.format, image.mode, image.size, "transparency" in image.info
    except Exception:  # Pillow raises many types on a damaged file; decoding says why
        return None


def _read_image(path: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    channels = tf.shape(image)[-1]
    return image[..., : channels - (channels + 1) % 2]  # drop the alpha channel
