"""Images from a folder of image files."""

import os
import warnings
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dvae_tf.kinds.image import formats
from dvae_tf.kinds.image.files import Examples
from dvae_tf.streamed import DatasetError, Streamed, first_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

# First byte of a key, before the path: who decodes the file.
_TENSORFLOW, _PILLOW = b"t", b"p"
_MAX_REASONS = 8


def load_folder(path: Path) -> tuple[Examples, None]:
    """Load the images in a folder and its sub-folders, in the order of their paths.

    A warning says how many files are passed over, and why.

    Raises:
        DatasetError: if there are no images, or they differ in size, or one is unsuitable.
    """
    files, passed_over = files_in(path, IMAGE_SUFFIXES)
    images = image_files(files)
    warn_of(path, files, passed_over)
    # Sub-folders are labels.
    labels = None
    if all(file.parent != path for file in files):
        _, labels = np.unique([file.parent.name for file in files], return_inverse=True)
    return (images, labels), None


def files_in(path: Path, suffixes: Sequence[str]) -> tuple[list[Path], Counter[str]]:
    """Return what `search` does.

    Raises:
        DatasetError: if there are no such files.
    """
    files, passed_over = search(path, suffixes)
    if files:
        return files, passed_over
    others = f", but with {_listed(passed_over)}. Convert images to one of these."
    raise DatasetError(
        f"{path} must hold images ({', '.join(suffixes)}). Received: a folder without any"
        + (others if passed_over else ".")
    )


def warn_of(path: Path, files: Sequence[Path], passed_over: Counter[str]) -> None:
    """Warn of files in a folder that are passed over."""
    if passed_over:
        warnings.warn(
            f"{path}: {len(files)} images are read; passed over: {_listed(passed_over)}",
            stacklevel=3,
        )


def search(root: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> tuple[list[Path], Counter[str]]:
    """Return the files of these suffixes under a folder, sorted, and the number of others by reason.

    Links to folders are followed, but every folder is read only once: under its own name if it lies
    under the root, and not at all if the root lies in it.
    """
    files: list[Path] = []
    passed_over: Counter[str] = Counter()
    read = {_identity(folder) for folder in root.resolve().parents}
    folders, linked = deque([root]), deque[Path]()
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        try:
            identity, names = _identity(folder), sorted(os.listdir(folder))
        except OSError:
            passed_over["unreadable folders"] += 1
            continue
        if identity in read:
            passed_over["links to folders that are read already"] += 1
            continue
        read.add(identity)
        for name in names:
            path = folder / name
            if name.startswith("."):  # the operating system's own, whatever its suffix
                passed_over["hidden"] += 1
            elif os.path.isdir(path):
                (linked if os.path.islink(path) else folders).append(path)
            elif not os.path.isfile(path):
                is_link = os.path.islink(path)
                passed_over["broken links" if is_link else "pipes, sockets or devices"] += 1
            elif path.suffix.lower() in suffixes:
                files.append(path)
            else:
                passed_over[path.suffix.lower() or "without suffix"] += 1
    return sorted(files), passed_over


def _identity(folder: Path) -> Hashable:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _listed(counts: Counter[str]) -> str:
    """Return counts in words, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {reason}" for reason, count in ordered[:_MAX_REASONS]]
    rest = sum(count for _, count in ordered[_MAX_REASONS:])
    return ", ".join([*words, f"{rest} others"] if rest else words)


def image_files(files: Sequence[Path]) -> Streamed:
    """Return the images in files, all of one size: uint8 [N, H, W, C].

    All headers are read. Only one file for each distinct form of header is decoded.

    Raises:
        DatasetError: if a header is unsuitable (see `formats.read`), sizes differ, or one of these
            files is damaged.
    """
    found = [formats.read(file) for file in files]
    shape = found[0].shape
    odd = [pair for pair in zip(files, found, strict=True) if pair[1].shape != shape]
    if odd:
        others = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise DatasetError(
            f"All images must have one shape. Received: {odd[0][1].shape} in {odd[0][0]}"
            f"{others}, {shape} in the others. Resize or remove them, or set `patch` to 64 to train "
            "on patches of images of any size."
        )
    keys = [
        (_TENSORFLOW if header.is_plain else _PILLOW) + os.fsencode(file)
        for file, header in zip(files, found, strict=True)
    ]
    images = Streamed(np.array(keys), _read_image, _name, tf.TensorSpec(shape, tf.uint8))
    forms: dict[Hashable, int] = {}
    for index, header in enumerate(found):
        forms.setdefault(header.form, index)
    images[list(forms.values())].check()
    return images


def _name(key: bytes) -> str:
    return os.fsdecode(key[1:])


def _read_image(key: tf.Tensor) -> tf.Tensor:
    path = tf.strings.substr(key, 1, -1)
    return tf.cond(
        tf.strings.substr(key, 0, 1) == _TENSORFLOW,
        lambda: _decoded_by_tensorflow(path),
        lambda: tf.ensure_shape(
            tf.numpy_function(_decoded_by_pillow, [path], tf.uint8), [None, None, None]
        ),
    )


def _decoded_by_pillow(path) -> np.ndarray:
    try:
        return formats.decode(os.fsdecode(np.asarray(path).item()))
    except Exception as error:  # outside of a graph TensorFlow would let it through as it is
        raise tf.errors.DataLossError(None, None, first_line(error)) from error


def _decoded_by_tensorflow(path: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    channels = tf.shape(image)[-1]
    return image[..., : channels - (channels + 1) % 2]  # drop the alpha channel
