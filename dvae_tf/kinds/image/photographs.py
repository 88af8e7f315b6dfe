"""Images as users have them: of any size, format and type; noisy ones alone; pairs.

`sources` reads images that a model takes as they are, of one size and in [0, 1]. Here a `Recording`
says what is different about them. All are read into memory.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dvae_tf.files import printable
from dvae_tf.kinds.image import files, folders, intensities, pairs, reading, sources
from dvae_tf.kinds.image.intensities import Images
from dvae_tf.kinds.kind import Recording, Source
from dvae_tf.streamed import DatasetError


def load(name: str, recording: Recording, *, data_dir: str | None) -> Source:
    """Load images as `recording` says.

    Args:
        name: name or path of a data set; of the noisy images of pairs.
        recording: how to read it.
        data_dir: directory of TensorFlow Datasets.

    Returns:
        images in the type of their files (uint8, uint16 or float32), or as float32 if there is a
        range, or several types. If sizes may differ, they are a list of arrays [H, W, C].

    Raises:
        DatasetError: if something is missing, damaged or unsuitable; the message names the file.
    """
    source = _read(name, recording, data_dir)
    groups = {"clean": source.train[0], "noisy": source.noisy, "test": None}
    if source.test is not None:
        groups["test"] = source.test[0]
    groups = {key: images for key, images in groups.items() if images is not None}
    for images in groups.values():
        _check_shapes(images, recording.any_size)
    if source.noisy is not None:
        _check_pairs(source.noisy, source.train[0])
    scale = intensities.scale_of(recording.range, groups["clean"])
    ready = {}
    for key, images in groups.items():
        is_noisy = key == "noisy" or (recording.is_noisy and source.noisy is None)
        scaled = intensities.scaled(images, scale, is_noisy=is_noisy)
        ready[key] = scaled.arrays if recording.any_size else np.stack(scaled.arrays)
    return source._replace(
        train=(ready["clean"], source.train[1]),
        test=None if source.test is None else (ready["test"], source.test[1]),
        noisy=ready.get("noisy"),
        range=None if scale is None else str(scale),
    )


# ---- reading: sources with `Images` in them ----


def _read(name: str, recording: Recording, data_dir: str | None) -> Source:
    path = Path(os.path.expanduser(name))
    if recording.clean is not None:
        return _of_pairs(path, Path(os.path.expanduser(recording.clean)))
    if files.holds_pairs(path):
        loaded = files.load_pairs(path)
        noisy, clean = (_of_array(loaded[key], f"{path}, {key}") for key in files.PAIRS)
        return Source(printable(path.stem), (clean, None), noisy=noisy)
    if path.is_dir():
        found, passed_over = folders.files_in(path, reading.SUFFIXES)
        folders.warn_of(path, found, passed_over)
        images = Images.joined(_of_file(file) for file in found)
        return Source(printable(path.stem), (images, None))
    if name not in sources.DEFAULTS and path.suffix in sources.FILES and path.exists():
        source = Source(printable(path.stem), *sources.FILES[path.suffix](path, any_values=True))
    else:
        source = sources.load(name, data_dir=data_dir, cache="memory")
    images, labels = source.train
    source = source._replace(train=(_of_array(images, name), labels))
    if source.test is not None:
        images, labels = source.test
        source = source._replace(test=(_of_array(images, f"{name}, test"), labels))
    return source


def _of_pairs(noisy: Path, clean: Path) -> Source:
    """Return the pairs in two folders, or in two .npy files."""
    if noisy.suffix == clean.suffix == ".npy" and noisy.is_file() and clean.is_file():
        images = [
            _of_array(files.load_npy(path, any_values=True)[0][0], str(path))
            for path in (noisy, clean)
        ]
    else:
        matched = [(_of_file(a), _of_file(b)) for a, b in pairs.match(noisy, clean)]
        images = [Images.joined(side) for side in zip(*_with_all_pages(matched), strict=True)]
    return Source(printable(noisy.stem), (images[1], None), noisy=images[0])


def _with_all_pages(matched: list[tuple[Images, Images]]) -> Iterator[tuple[Images, Images]]:
    """Repeat a clean page that belongs to all pages of a noisy stack."""
    for noisy, clean in matched:
        count = len(noisy.arrays)
        if len(clean.arrays) == 1:
            clean = Images(clean.arrays * count, clean.names * count)
        if len(clean.arrays) != count:
            raise DatasetError(
                f"{clean.names[0]} must belong to a file of one page, or of as many as its noisy "
                f"partner. Received: {len(clean.arrays)} pages, and {count} from {noisy.names[0]} "
                "on. Remove the others."
            )
        yield noisy, clean


def _of_file(path: Path) -> Images:
    pages = list(reading.read(path).pages)
    if len(pages) == 1:
        return Images(pages, [str(path)])
    return Images(pages, [f"{path}, page {number}" for number in range(1, len(pages) + 1)])


def _of_array(images, name: str) -> Images:
    images = np.asarray(images)
    images = images if images.ndim == 4 else images[..., None]
    return Images(list(images), [f"image {index} of {name}" for index in range(len(images))])


# ---- shapes ----


def _check_shapes(images: Images, any_size: bool) -> None:
    """Refuse images of several numbers of channels; of several sizes too, unless `any_size`."""

    def odd(of) -> str:
        """Return in words which images differ from the first, and how; empty if none does."""
        values = [of(image) for image in images.arrays]
        places = [place for place, value in enumerate(values) if value != values[0]]
        if not places:
            return ""
        first, more = places[0], f" and {len(places) - 1} more" if len(places) > 1 else ""
        return f"{values[first]} in {images.names[first]}{more}, {values[0]} in {images.names[0]}"

    if found := odd(lambda image: image.shape[-1]):
        raise DatasetError(
            f"All images must have one number of channels. Received: {found}. Convert or remove them."
        )
    if not any_size and (found := odd(np.shape)):
        raise DatasetError(
            f"All images must have one shape. Received: {found}. Resize or remove them, or set "
            "`patch` to 64 to train on patches of images of any size."
        )
    sources.check_channels(images.arrays[0].shape, images.names[0])


def _check_pairs(noisy: Images, clean: Images) -> None:
    """Refuse pairs of different sizes."""
    if len(noisy.arrays) != len(clean.arrays):
        raise DatasetError(
            "Every noisy image must have a clean one. Received: "
            f"{len(noisy.arrays)} noisy and {len(clean.arrays)} clean images."
        )
    for number, (a, b) in enumerate(zip(noisy.arrays, clean.arrays, strict=True)):
        if a.shape[:2] != b.shape[:2]:
            raise DatasetError(
                f"The images of a pair must have one size. Received: {a.shape[:2]} in "
                f"{noisy.names[number]}, {b.shape[:2]} in {clean.names[number]}. Crop or remove them."
            )
