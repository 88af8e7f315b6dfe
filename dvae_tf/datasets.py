"""Data sets by name, their splits, and the batches a model is fed.

Images are kept in memory as they come (8-bit where they are 8-bit) and batched by index: a batch
is one gather. What a training batch holds is a function of (seed, step) alone.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dvae_tf import randomness

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
BINARIZATIONS = ("dynamic", "static", "threshold", "none")
SPLITS = ("contiguous", "random")

# Which example is in which split does not depend on the seed of a run: runs stay comparable.
_SPLIT_SEED = 0


class DatasetError(ValueError):
    """The data asked for cannot be used; the message says what to do."""


class Split(NamedTuple):
    """Images [N, H, W, C], uint8 in 0..255 or float32 in [0, 1], and labels [N] where known."""

    images: np.ndarray
    labels: np.ndarray | None = None

    def take(self, indices) -> "Split":
        labels = None if self.labels is None else self.labels[indices]
        return Split(self.images[indices], labels)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train.images.shape[1:])  # type: ignore[return-value]

    def limited(self, num_examples: int | None) -> "Dataset":
        """Return the data set with the first `num_examples` of its training split."""
        if num_examples is None:
            return self
        if num_examples < 1:
            raise DatasetError(f"`limit` must be at least 1. Received: limit={num_examples}.")
        return replace(self, train=self.train.take(slice(num_examples)))

    def binarized(self, how: str, *, seed: int = 0) -> "Dataset":
        """Return the data set with binary pixels.

        Args:
            how: "threshold" at 1/2; "static", each pixel drawn once with its value as probability;
                "dynamic", the same for validation and test while the training images stay as they
                are, since `DVAE(..., binarize=True)` draws them anew for every step; "none".
            seed: of the training images' draws. Those of validation and test are the same for
                every seed, so that runs are compared on the same images.
        """
        if how == "none":
            return self
        if how not in BINARIZATIONS:
            raise DatasetError(
                f"`binarize` must be one of {', '.join(BINARIZATIONS)}. Received: {how!r}."
            )

        def binary(split: Split, *seeds: int) -> Split:
            limit: float | np.ndarray = 0.5
            if how != "threshold":
                limit = np.random.default_rng(seeds).random(split.images.shape, np.float32)
            # 255 rather than 1: 8-bit images mean pixel / 255.
            return split._replace(images=(as_float(split.images) > limit).astype(np.uint8) * 255)

        validation, test = (
            binary(self.validation, _SPLIT_SEED, 1),
            binary(self.test, _SPLIT_SEED, 2),
        )
        train = self.train if how == "dynamic" else binary(self.train, seed, 0)
        return replace(self, train=train, validation=validation, test=test)


def as_float(images: np.ndarray) -> np.ndarray:
    """Return images as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False)


# ---- batches ----


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return how many batches an epoch has; a split smaller than a batch makes one.

    All batches are whole. A long epoch leaves out a batch more where that makes it a multiple of
    `steps_per_call`.
    """
    steps = max(len(split.images) // batch_size, 1)
    return steps - steps % steps_per_call(steps)


def steps_per_call(steps: int) -> int:
    """Return how many steps of an epoch run in one call of TensorFlow: at most 64.

    A call takes time that a short step would notice. The number divides the epoch, but for a
    remainder as small as can be.
    """
    if steps <= 64:
        return steps
    return min(range(32, 65), key=lambda number: (steps % number, -number))


def training_batches(
    split: Split, batch_size: int, *, seed: int, first_step: int = 0
) -> tf.data.Dataset:
    """Return an endless stream of training batches; batch t is a function of (seed, t) alone.

    Every epoch of `steps_per_epoch` batches goes through the split in a new order. All batches are
    full, so that one compiled program serves them; what is left over differs by epoch. Labels are
    for evaluation, and stay behind.

    Args:
        split: the training examples.
        batch_size: examples in a batch; a smaller split is one batch.
        seed: of the order.
        first_step: the step of the first batch; a resumed run gives the one it stopped at.
    """
    steps = steps_per_epoch(split, batch_size)
    size = min(batch_size, len(split.images))
    gather = _gather(split)
    (order_seed,) = randomness.split(randomness.as_seed(seed), 1)

    def batch(step):
        epoch, index = step // steps, tf.cast(step % steps, tf.int32)
        places = tf.random.experimental.index_shuffle(
            index * size + tf.range(size),
            randomness.fold_in(order_seed, epoch),
            max_index=len(split.images) - 1,
        )
        return tf.ensure_shape(gather(places), (size, *split.images.shape[1:]))

    stream = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return stream.map(batch).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Return one pass over the images in order, the last batch as large as what is left."""
    count = len(split.images)
    gather = _gather(split)

    def batch(start):
        return gather(tf.range(start, tf.minimum(start + batch_size, count)))

    return tf.data.Dataset.range(0, count, batch_size).map(batch).prefetch(2)


def _gather(split: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from indices to images as floats."""
    with tf.device("CPU"):  # the data stay in host memory
        images = tf.constant(split.images)

    def gather(indices):
        batch = tf.cast(tf.gather(images, indices), tf.float32)
        return batch / 255.0 if images.dtype == tf.uint8 else batch

    return gather


# ---- loading ----


def load(name: str, *, data_dir: str | None = None, split: str | None = None) -> Dataset:
    """Load a data set.

    Args:
        name: "digits" (scikit-learn's, 8 x 8), "mnist", "frey", "tfds:NAME" for an image data set
            of TensorFlow Datasets, or the path of an .npz, an .npy or a folder of images.
        data_dir: directory of TensorFlow Datasets; None takes TFDS_DATA_DIR, or TFDS's default.
        split: "contiguous" blocks or "random" examples, where the data come without a test or
            validation split. None takes contiguous for Frey Faces, a video, and random elsewhere.

    Raises:
        DatasetError: if the name is unknown or the data are missing, damaged or not images in range.
    """
    if split not in (None, *SPLITS):
        raise DatasetError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    if name == "digits":
        return _divide(name, _load_digits(), None, split or "random")
    if name == "mnist":
        return _divide(name, *_load_tfds("mnist", data_dir), split or "random", num_held_out=5000)
    if name == "frey":
        return _divide(name, _load_frey(data_dir), None, split or "contiguous")
    if name.startswith("tfds:"):
        return _divide(name, *_load_tfds(name[len("tfds:") :], data_dir), split or "random")
    path = Path(name).expanduser()
    if path.exists():
        loaders = {".npz": _load_npz, ".npy": _load_npy}
        if not path.is_dir() and path.suffix not in loaders:
            raise DatasetError(
                f"A data file must end in .npz or .npy, or be a folder of images. Received: {path}."
            )
        train, test = _load_folder(path) if path.is_dir() else loaders[path.suffix](path)
        return _divide(path.stem, train, test, split or "random")
    raise DatasetError(
        "`dataset` must be digits, mnist, frey, tfds:NAME, or the path of an existing .npz, .npy or "
        f"folder of images. Received: {name!r}."
    )


def _divide(
    name: str, examples: Split, test: Split | None, how: str, num_held_out: int | None = None
) -> Dataset:
    """Hold out a validation split, and a test split where there is none, from the examples.

    Each is a tenth of the examples unless `num_held_out` says how many.
    """
    count = len(examples.images)
    num_parts = 2 if test is None else 1
    if count < num_parts + 1:
        raise DatasetError(
            f"The data set must have at least {num_parts + 1} images, one for each split. "
            f"Received: {count} in {name}."
        )
    size = min(num_held_out or max(count // 10, 1), (count - 1) // num_parts)
    if how == "random":
        order = np.random.default_rng(_SPLIT_SEED).permutation(count)
        held_out = [np.sort(order[size * i : size * (i + 1)]) for i in range(num_parts)]
    else:
        held_out = _blocks(count, size, num_parts)
    kept = np.setdiff1d(np.arange(count), np.concatenate(held_out))
    validation = examples.take(held_out[0])
    test = examples.take(held_out[1]) if test is None else test
    return Dataset(name, examples.take(kept), validation, test)


def _blocks(count: int, size: int, num_parts: int, num_blocks: int = 4) -> list[np.ndarray]:
    """Return `num_parts` index sets of `size`, each of contiguous blocks spread over the sequence.

    The sequence is cut into equal stretches; each gives one block to every part, so that all parts
    see all of the video while only the blocks' edges have near neighbours elsewhere.
    """
    num_blocks = max(min(num_blocks, size), 1)
    parts: list[list[np.ndarray]] = [[] for _ in range(num_parts)]
    for stretch, quota in zip(
        np.array_split(np.arange(count), num_blocks),
        np.array_split(np.arange(size), num_blocks),
        strict=True,
    ):
        for index, part in enumerate(parts):
            end = len(stretch) * (index + 1) // num_parts
            part.append(stretch[end - len(quota) : end])
    return [np.concatenate(part) for part in parts]


def _load_digits() -> Split:
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    return Split((digits.images[..., None] / 16).astype(np.float32), digits.target)


def _load_tfds(name: str, data_dir: str | None) -> tuple[Split, Split | None]:
    # Importing TFDS takes seconds: only those who use it pay.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        raise DatasetError(
            f"`tfds:NAME` must name a data set of TensorFlow Datasets. Received: {name!r} "
            f"({_first_line(error)})."
        ) from error
    features = builder.info.features
    if features is None or "image" not in features:
        raise DatasetError(
            "The data set must have a feature `image`. "
            f"Received: {name!r}, with {', '.join(features or ['no features'])}."
        )
    try:
        if name == "mnist" and not Path(builder.data_dir).exists():
            _require_network("https://storage.googleapis.com")
        builder.download_and_prepare()
        splits = {
            key: _read_tfds(builder, key) for key in ("train", "test") if key in builder.info.splits
        }
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{name} could not be prepared in {builder.data_dir} ({_first_line(error)}). Check the "
            "network, or give the directory where it is prepared with --data-dir or TFDS_DATA_DIR."
        ) from error
    if "train" not in splits:
        raise DatasetError(f"The data set must have a split `train`. Received: {name!r}.")
    return splits["train"], splits.get("test")


def _read_tfds(builder, split: str) -> Split:
    import tensorflow_datasets as tfds

    features = builder.info.features
    source = builder.as_dataset(split=split, shuffle_files=False)
    keys = [key for key in ("image", "label") if key in features]
    source = source.map(lambda example: {key: example[key] for key in keys})
    if None in features["image"].shape:
        examples = list(tfds.as_numpy(source))
        shapes = {example["image"].shape for example in examples}
        if len(shapes) > 1:
            raise DatasetError(
                f"All images must have one size. Received: {len(shapes)} sizes in {builder.name}, "
                f"{' and '.join(map(str, sorted(shapes)[:2]))} among them."
            )
        columns = {key: np.stack([example[key] for example in examples]) for key in keys}
    else:
        count = builder.info.splits[split].num_examples
        columns = {k: v.numpy() for k, v in source.batch(count).get_single_element().items()}
    return Split(_checked(columns["image"], f"{builder.name} ({split})"), columns.get("label"))


def _load_frey(data_dir: str | None) -> Split:
    import tensorflow_datasets as tfds

    from dvae_tf import frey_faces

    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    manual_file = root / "downloads" / "manual" / frey_faces.FILE_NAME
    try:
        builder = frey_faces.FreyFaces(data_dir=str(root))
        if not Path(builder.data_dir).exists():
            if manual_file.exists() and not _is_writable(root):
                return Split(frey_faces.read_frames(manual_file))
            if not manual_file.exists():
                _require_network(frey_faces.URL)
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=str(manual_file.parent))
            )
        source = builder.as_dataset(split="train", shuffle_files=False)
        frames = source.batch(frey_faces.NUM_FRAMES).get_single_element()
    except Exception as error:
        raise DatasetError(
            f"{frey_faces.FILE_NAME} must be downloadable from {frey_faces.URL}, or lie in "
            f"{manual_file.parent} ({_first_line(error)}). Put the file there, or name another "
            "TFDS directory with --data-dir."
        ) from error
    return Split(frames["image"].numpy()[np.argsort(frames["frame"].numpy())])


def _is_writable(directory: Path) -> bool:
    """Whether files may be made there; without write permission not by the superuser either."""
    return bool(directory.stat().st_mode & stat.S_IWUSR) and os.access(directory, os.W_OK)


def _require_network(url: str) -> None:
    """Raise OSError at once when `url` cannot be reached: TFDS would retry for minutes."""
    import requests

    try:
        requests.head(url, timeout=15)
    except requests.ConnectionError as error:
        raise OSError(f"{url} cannot be reached") from error


def _load_npz(path: Path) -> tuple[Split, Split | None]:
    arrays = _read_numpy(path)
    images = next((key for key in ("x_train", "images") if key in arrays), None)
    if images is None:
        raise DatasetError(
            f"{path} must hold an array `images`, or `x_train` and `x_test`. "
            f"Received: {', '.join(arrays) or 'no arrays'}."
        )

    def read(images_key, labels_keys) -> Split:
        split_images = _checked(arrays[images_key], f"{path}, array {images_key}")
        labels = next((arrays[key] for key in labels_keys if key in arrays), None)
        if labels is not None and labels.shape != split_images.shape[:1]:
            raise DatasetError(
                f"{path} must hold one label for each of its {len(split_images)} images. "
                f"Received: labels of shape {labels.shape}."
            )
        return Split(split_images, labels)

    train = read(images, ("y_train", "labels"))
    test = read("x_test", ("y_test",)) if "x_test" in arrays else None
    if test is not None and test.images.shape[1:] != train.images.shape[1:]:
        raise DatasetError(
            f"{path} must hold images of one shape. Received: {train.images.shape[1:]} in {images} "
            f"and {test.images.shape[1:]} in x_test."
        )
    if test is not None and (test.labels is None) != (train.labels is None):
        raise DatasetError(
            f"{path} must hold labels for both x_train and x_test, or for neither. "
            f"Received: {', '.join(arrays)}."
        )
    return train, test


def _load_npy(path: Path) -> tuple[Split, None]:
    return Split(_checked(_read_numpy(path)[""], str(path))), None


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, an .npy under the key "". Nothing in it is ever executed."""
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
            f"Received: {_first_line(error)}."
        ) from error


def _load_folder(path: Path) -> tuple[Split, None]:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        raise DatasetError(
            f"{path} must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: a folder without any."
        )
    images: list[np.ndarray] = []
    for file in files:
        try:
            image = tf.io.decode_image(file.read_bytes(), expand_animations=False).numpy()
        except (tf.errors.InvalidArgumentError, OSError) as error:
            raise DatasetError(
                f"{file} must be a readable image. Received: {_first_line(error)}."
            ) from error
        if image.shape[-1] in (2, 4):
            image = image[..., :-1]  # an alpha channel is no part of the picture
        if images and image.shape != images[0].shape:
            raise DatasetError(
                "All images must have one size and one number of channels. Received: "
                f"{image.shape} in {file}, {images[0].shape} in {files[0]}."
            )
        images.append(image)
    # Images in sub-folders are labelled by them.
    classes = sorted({file.parent.name for file in files if file.parent != path})
    labels = None
    if classes and all(file.parent != path for file in files):
        labels = np.array([classes.index(file.parent.name) for file in files])
    return Split(_checked(np.stack(images), str(path)), labels), None


def _checked(images: np.ndarray, where: str) -> np.ndarray:
    """Return images as uint8 or float32 [N, H, W, C], or say what is wrong with them."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DatasetError(
            f"Images in {where} must have shape [N, height, width] or [N, height, width, channels], "
            f"none of them 0. Received: shape {images.shape}. Reshape flat vectors first."
        )
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * 255
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DatasetError(
            f"Images in {where} must be uint8 in 0..255, bool, or floats in [0, 1]. "
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
        remedy = "Divide by 255." if low >= 0 and high <= 255 else "Rescale them."
        raise DatasetError(
            f"Images in {where} must be floats in [0, 1]. "
            f"Received: values from {low:g} to {high:g}. {remedy}"
        )
    return images.astype(np.float32)


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", str(error))  # TensorFlow's names of nodes
    text = re.sub(r"\s+", " ", text).strip() or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
