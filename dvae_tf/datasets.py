"""Data sets by name, their splits, and the batches a model is fed.

Images are kept in memory as they come (8-bit where they are 8-bit) and batched by index: a batch
is one gather. Training images that are too many for it are streamed, read when their batch is due.
What a training batch holds is a function of (seed, step) alone, and the same in both cases.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dvae_tf import counts, randomness
from dvae_tf.data import streaming
from dvae_tf.data.streaming import DatasetError, Streamed, first_line
from dvae_tf.kinds.image.checks import has_8_bit_scale

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_MAX_CHANNELS = 4  # of a PNG
BINARIZATIONS = ("dynamic", "static", "threshold", "none")
SPLITS = ("contiguous", "random")
CACHES = ("auto", "memory", "none")

# Which example is in which split does not depend on the seed of a run: runs stay comparable.
_SPLIT_SEED = 0

# Bytes of training images, decoded, that "auto" holds in memory; of a split for validation or test
# that could be streamed, as many as the largest such data set has, where each of them is a tenth.
_MAX_CACHED = 2**30
_MAX_HELD = _MAX_CACHED // 8
# The mean of streamed images is that of so many: in no pixel has it a standard error above 0.016.
_NUM_AVERAGED = 1000


class Split(NamedTuple):
    """Images [N, H, W, C], uint8 in 0..255 or float32 in [0, 1], and labels [N] where known."""

    images: np.ndarray | Streamed
    labels: np.ndarray | Streamed | None = None

    def take(self, indices) -> "Split":
        labels = None if self.labels is None else self.labels[indices]
        return Split(self.images[indices], labels)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set, of which only that for training may be streamed."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train.images.shape[1:])  # type: ignore[return-value]

    def digest(self) -> str:
        """Return what images and labels hash to, but those that are streamed."""
        content = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in split:
                if isinstance(array, np.ndarray):
                    content.update(np.ascontiguousarray(array).data)  # without a copy
        return content.hexdigest()[:16]

    def limited(self, num_examples: int | None) -> "Dataset":
        """Return the data set with the first `num_examples` of its training split."""
        if num_examples is None:
            return self
        if not counts.is_count(num_examples):
            raise DatasetError(
                f"`limit` must be an integer of at least 1. Received: limit={num_examples!r}."
            )
        return replace(self, train=self.train.take(slice(num_examples)))

    def binarized(self, how: str, *, seed: int = 0) -> "Dataset":
        """Return the data set with binary pixels.

        Args:
            how: "threshold" at 1/2; "static", each pixel drawn once with its value as probability;
                "dynamic", the same for validation and test while the training images stay as they
                are, since `DVAE(..., binarize=True)` draws them anew for every step; "none".
            seed: of the training images' draws. Those of validation and test are the same for
                every seed, so that runs are compared on the same images.

        Raises:
            DatasetError: if `how` is unknown, or would change streamed images once and for all.
        """
        if how == "none":
            return self
        if how not in BINARIZATIONS:
            raise DatasetError(
                f"`binarize` must be one of {', '.join(BINARIZATIONS)}. Received: {how!r}."
            )

        if how != "dynamic" and isinstance(self.train.images, Streamed):
            raise DatasetError(
                "`binarize` must be dynamic or none where images are read from disk as they are "
                f"needed. Received: {how!r}. Give --binarize dynamic, or --cache memory."
            )

        def binary(split: Split, *seeds: int) -> Split:
            return _above(split, 0.5) if how == "threshold" else drawn_binary(split, *seeds)

        validation, test = (
            binary(self.validation, _SPLIT_SEED, 1),
            binary(self.test, _SPLIT_SEED, 2),
        )
        train = self.train if how == "dynamic" else binary(self.train, seed, 0)
        return replace(self, train=train, validation=validation, test=test)


def drawn_binary(split: Split, *seeds: int) -> Split:
    """Return a split with each pixel drawn black or white, with its value as probability of white."""
    return _above(split, np.random.default_rng(seeds).random(split.images.shape, np.float32))


def _above(split: Split, limit: float | np.ndarray) -> Split:
    # 255 rather than 1: 8-bit images mean pixel / 255.
    return split._replace(images=(as_float(split.images) > limit).astype(np.uint8) * 255)


def as_float(images: np.ndarray | Streamed) -> np.ndarray:
    """Return images as float32 in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False)


def in_memory(split: Split, num_examples: int | None = None) -> Split:
    """Return the first `num_examples`, or all; of streamed ones evenly spaced ones, up to 128 MiB.

    Raises:
        DatasetError: if a streamed image cannot be read; the message names it.
    """
    if not isinstance(split.images, Streamed):
        return split.take(slice(num_examples))
    count = len(split.images)
    kept = min(num_examples or count, max(_MAX_HELD * count // split.images.nbytes, 1), count)
    return _loaded(split.take(evenly_spaced(count, kept)))


def evenly_spaced(count: int, number: int) -> np.ndarray:
    """Return `number` places among `count`, from the first to the last and as far apart as can be.

    Where there are fewer, it is all of them.
    """
    return np.linspace(0, count - 1, min(number, count)).round().astype(int)


def _loaded(split: Split) -> Split:
    try:
        images = np.asarray(split.images)
    except MemoryError as error:
        raise DatasetError(
            "`cache` must be auto or none where the images do not fit into memory. "
            f"Received: images of shape {split.images.shape}. Give --cache none."
        ) from error
    return Split(images, None if split.labels is None else np.asarray(split.labels))


def mean_image(split: Split) -> np.ndarray:
    """Return the mean [H, W, C] of the images in [0, 1]; of streamed ones that of 1,000."""
    if isinstance(split.images, Streamed):
        split = in_memory(split, _NUM_AVERAGED)
    mean = np.asarray(split.images).mean(axis=0, dtype=np.float64)
    return mean / 255 if split.images.dtype == np.uint8 else mean


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
    size = min(batch_size, len(split.images))
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    batches = _batches(split, steps, _order(split, batch_size, seed), size, whole=True)
    # A buffer of streamed batches would grow for as long as reading is the slower part.
    return batches.prefetch(2 if isinstance(split.images, Streamed) else tf.data.AUTOTUNE)


def check_training_images(split: Split, batch_size: int, *, seed: int, first_step: int) -> None:
    """Read the images of an epoch of training batches once more, after a step that failed.

    Raises:
        DatasetError: if a streamed image cannot be read; the message names it.
    """
    if isinstance(split.images, Streamed):
        places = _order(split, batch_size, seed)
        for step in range(first_step, first_step + steps_per_epoch(split, batch_size)):
            split.images[places(tf.constant(step, tf.int64)).numpy()].check()


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Return one pass over the images in order, the last batch as large as what is left."""
    count = len(split.images)

    def places(start):
        return tf.range(start, tf.minimum(start + batch_size, count))

    starts = tf.data.Dataset.range(0, count, batch_size)
    return _batches(split, starts, places, batch_size, whole=False).prefetch(2)


def _order(split: Split, batch_size: int, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from steps to the indices of their training batches."""
    steps = steps_per_epoch(split, batch_size)
    size = min(batch_size, len(split.images))
    (order_seed,) = randomness.split(randomness.as_seed(seed), 1)

    def places(step):
        epoch, index = step // steps, tf.cast(step % steps, tf.int32)
        return tf.random.experimental.index_shuffle(
            index * size + tf.range(size),
            randomness.fold_in(order_seed, epoch),
            max_index=len(split.images) - 1,
        )

    return places


def _batches(
    split: Split, numbers: tf.data.Dataset, places: Callable, size: int, *, whole: bool
) -> tf.data.Dataset:
    """Return the images at `places(number)` as floats, a batch for every number."""
    images = split.images
    shape = (size if whole else None, *images.shape[1:])

    def as_batch(images):
        batch = tf.ensure_shape(tf.cast(images, tf.float32), shape)
        return batch / 255.0 if images.dtype == tf.uint8 else batch

    if isinstance(images, Streamed):
        return images.stream(numbers.map(places).unbatch()).batch(size).map(as_batch)
    with tf.device("CPU"):  # the data stay in host memory
        held = tf.constant(images)
    return numbers.map(lambda number: as_batch(tf.gather(held, places(number))))


# ---- loading ----


def load(
    name: str,
    *,
    data_dir: str | None = None,
    split: str | None = None,
    cache: str = "auto",
    limit: int | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        name: "digits" (scikit-learn's, 8 x 8), "mnist", "frey", "tfds:NAME" for an image data set
            of TensorFlow Datasets, or the path of an .npz, an .npy or a folder of images.
        data_dir: directory of TensorFlow Datasets; None takes TFDS_DATA_DIR, or TFDS's default.
        split: "contiguous" blocks or "random" examples, where the data come without a test or
            validation split. None takes contiguous for Frey Faces, a video, and random elsewhere.
        cache: "memory" holds all images; "none" streams the training images of a folder or of
            "tfds:NAME"; "auto" streams them if they take more than 1 GiB decoded. With streamed
            images, validation and test have at most 128 MiB each, evenly spaced, in memory.
        limit: as `Dataset.limited`.

    Raises:
        DatasetError: if the name is unknown or the data are missing, damaged or not images in range.
    """
    if cache not in CACHES:
        raise DatasetError(f"`cache` must be one of {', '.join(CACHES)}. Received: {cache!r}.")
    return _cached(_load(name, data_dir, split, cache).limited(limit), cache)


def _cached(dataset: Dataset, cache: str) -> Dataset:
    """Return the data set with as much in memory as `cache` says."""
    train, validation, test = dataset.train, dataset.validation, dataset.test
    if not isinstance(train.images, Streamed):
        if cache == "none":
            raise DatasetError(
                "`cache` must be auto or memory, but for a folder of images and tfds:NAME. "
                f"Received: 'none' for {dataset.name}. Give --cache auto."
            )
        return dataset
    hold = _loaded if cache == "memory" else in_memory
    if cache == "memory" or (cache == "auto" and train.images.nbytes <= _MAX_CACHED):
        train = _loaded(train)
    return replace(dataset, train=train, validation=hold(validation), test=hold(test))


def _load(name: str, data_dir: str | None, split: str | None, cache: str) -> Dataset:
    """Load a data set whose images may be streamed, all of them or none."""
    if split not in (None, *SPLITS):
        raise DatasetError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    if name == "digits":
        return _divide(name, _load_digits(), None, split or "random")
    if name == "mnist":
        train, test = _load_tfds("mnist", data_dir, "memory")
        return _divide(name, train, test, split or "random", num_held_out=5000)
    if name == "frey":
        return _divide(name, _load_frey(data_dir), None, split or "contiguous")
    if name.startswith("tfds:"):
        train, test = _load_tfds(name[len("tfds:") :], data_dir, cache)
        return _divide(name, train, test, split or "random")
    path = Path(os.path.expanduser(name))  # which leaves an unknown ~user as it is
    if name and path.exists():
        loaders = {".npz": _load_npz, ".npy": _load_npy}
        if not path.is_dir() and path.suffix not in loaders:
            raise DatasetError(
                f"A data file must end in .npz or .npy, or be a folder of images. Received: {path}."
            )
        train, test = _load_folder(path) if path.is_dir() else loaders[path.suffix](path)
        return _divide(path.stem, train, test, split or "random")
    raise DatasetError(
        "`dataset` must be digits, mnist, frey, tfds:NAME, or the path of an existing .npz, .npy or "
        f"folder of images, from the directory where the command runs. Received: {name!r}."
    )


def _divide(
    name: str, examples: Split, test: Split | None, how: str, num_held_out: int | None = None
) -> Dataset:
    """Hold out a validation split, and a test split where there is none, from the examples.

    Each is a tenth of the examples unless `num_held_out` says how many.
    """
    shape = tuple(examples.images.shape)
    if shape[-1] > _MAX_CHANNELS:
        is_first = shape[1] <= _MAX_CHANNELS
        remedy = "Transpose [N, channels, height, width]." if is_first else "Choose some of them."
        raise DatasetError(
            f"Images of {name} must have at most {_MAX_CHANNELS} channels, the last axis. "
            f"Received: shape {shape}. {remedy}"
        )
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


def _load_tfds(name: str, data_dir: str | None, cache: str) -> tuple[Split, Split | None]:
    # Importing TFDS takes seconds: only those who use it pay.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        raise DatasetError(
            f"`tfds:NAME` must name a data set of TensorFlow Datasets. Received: {name!r} "
            f"({first_line(error)})."
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
        keys = [key for key in ("train", "test") if key in builder.info.splits]
        read = _read_tfds
        if "train" in keys and (
            cache == "none" or (cache == "auto" and _decoded_bytes(builder, keys) > _MAX_CACHED)
        ):
            read = _stream_tfds
        splits = {key: read(builder, key) for key in keys}
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{name} could not be prepared in {builder.data_dir} ({first_line(error)}). Check the "
            "network, or give the directory where it is prepared with --data-dir or TFDS_DATA_DIR."
        ) from error
    if "train" not in splits:
        raise DatasetError(f"The data set must have a split `train`. Received: {name!r}.")
    return splits["train"], splits.get("test")


def _decoded_bytes(builder, splits: list[str]) -> int:
    """Return the bytes of all images, if they have one shape."""
    image = builder.info.features["image"]
    shape = image.shape
    if None in shape:
        shape = next(iter(builder.as_dataset(split="train").take(1)))["image"].shape
    count = sum(builder.info.splits[split].num_examples for split in splits)
    return count * int(np.prod(shape)) * np.dtype(image.np_dtype).itemsize


def _stream_tfds(builder, split: str) -> Split:
    names = [name for name in ("image", "label") if name in builder.info.features]
    columns = streaming.tfds_columns(builder, split, names)
    images = columns["image"]
    if images.dtype != np.uint8 or len(images.shape) != 4:
        raise DatasetError(
            "Images that are streamed must be uint8 [height, width, channels]. Received: "
            f"{images.dtype} {list(images.shape[1:])} in {builder.name}. Give --cache memory."
        )
    return Split(images, columns.get("label"))


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

    from dvae_tf.kinds.image import frey_faces

    root = Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
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
            f"{manual_file.parent} ({first_line(error)}). Put the file there, or name another "
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
        if labels is not None and labels.dtype.kind == "f" and np.all(labels == labels.round()):
            labels = labels.astype(np.int64)
        if labels is not None and labels.dtype.kind not in "biuSU":
            raise DatasetError(
                f"{path} must hold labels that are integers or words. Received: {labels.dtype}. "
                "Convert them, or leave them out."
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
            f"Received: {first_line(error)}."
        ) from error


def _load_folder(path: Path) -> tuple[Split, None]:
    # What begins with a dot is some system's own, whatever its suffix.
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
    # Images in sub-folders are labelled by them.
    labels = None
    if all(file.parent != path for file in files):
        _, labels = np.unique([file.parent.name for file in files], return_inverse=True)
    return Split(streaming.image_files(files), labels), None


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
        remedy = "Divide by 255." if has_8_bit_scale(low, high) else "Rescale or clip them."
        raise DatasetError(
            f"Images in {where} must be floats in [0, 1]. "
            f"Received: values from {low:.9g} to {high:.9g}. {remedy}"
        )
    return images.astype(np.float32)
