"""Images from TensorFlow Datasets, read at once or streamed from the records on disk."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dvae_tf import streamed
from dvae_tf.kinds.image.files import Examples, checked
from dvae_tf.streamed import DatasetError, Streamed, first_line, read_row


def load(name: str, data_dir: str | None, cache: str) -> tuple[Examples, Examples | None]:
    # Importing TFDS takes seconds, so only its users pay for it.
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
            require_network("https://storage.googleapis.com")
        builder.download_and_prepare()
        keys = [key for key in ("train", "test") if key in builder.info.splits]
        read = _read_tfds
        if "train" in keys and (
            cache == "none"
            or (cache == "auto" and _decoded_bytes(builder, keys) > streamed.MAX_CACHED)
        ):
            read = _stream_tfds
        splits = {key: read(builder, key) for key in keys}
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{name} could not be prepared in {builder.data_dir} ({first_line(error)}). Check the "
            "network, or set `data_dir` or TFDS_DATA_DIR to the directory that holds it."
        ) from error
    if "train" not in splits:
        raise DatasetError(f"The data set must have a split `train`. Received: {name!r}.")
    return splits["train"], splits.get("test")


def _decoded_bytes(builder, splits: list[str]) -> int:
    """Return the size of all images in bytes, decoded, assuming that they have one shape."""
    image = builder.info.features["image"]
    shape = image.shape
    if None in shape:
        shape = next(iter(builder.as_dataset(split="train").take(1)))["image"].shape
    count = sum(builder.info.splits[split].num_examples for split in splits)
    return count * int(np.prod(shape)) * np.dtype(image.np_dtype).itemsize


def _stream_tfds(builder, split: str) -> Examples:
    names = [name for name in ("image", "label") if name in builder.info.features]
    columns = tfds_columns(builder, split, names)
    images = columns["image"]
    if images.dtype != np.uint8 or len(images.shape) != 4:
        raise DatasetError(
            "Streamed images must be uint8 [height, width, channels]. Received: "
            f"{images.dtype} {list(images.shape[1:])} in {builder.name}. Choose cache='memory'."
        )
    return images, columns.get("label")


def _read_tfds(builder, split: str) -> Examples:
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
                f"such as {' and '.join(map(str, sorted(shapes)[:2]))}."
            )
        columns = {key: np.stack([example[key] for example in examples]) for key in keys}
    else:
        count = builder.info.splits[split].num_examples
        columns = {k: v.numpy() for k, v in source.batch(count).get_single_element().items()}
    return checked(columns["image"], f"{builder.name} ({split})"), columns.get("label")


def require_network(url: str) -> None:
    """Raise OSError at once if `url` cannot be reached; TFDS itself would retry for minutes."""
    import requests

    try:
        requests.head(url, timeout=15)
    except requests.ConnectionError as error:
        raise OSError(f"{url} cannot be reached") from error


def tfds_columns(builder, split: str, names: Sequence[str]) -> dict[str, Streamed]:
    """Return features of a split of TensorFlow Datasets, in the order in which TFDS reads it.

    TFRecord files have no index, so the lengths before the records serve to build one. Checksums are
    not verified.

    Args:
        builder: of TensorFlow Datasets.
        split: name of the split.
        names: names of the features.

    Raises:
        DatasetError: if the split is not stored in TFRecord files, or a file is cut off.
    """
    import tensorflow_datasets as tfds

    if builder.info.file_format.value != "tfrecord":
        raise DatasetError(
            "TensorFlow Datasets must store a data set as tfrecord files to stream it. Received: "
            f"{builder.info.file_format.value} for {builder.name}. Prepare it in another `data_dir`."
        )
    files, spans = [], []
    for number, instruction in enumerate(builder.info.splits[split].file_instructions):
        files.append(os.fspath(instruction.filename))
        spans.append(_records(files[-1], number))
        if len(spans[-1]) != instruction.examples_in_shard:
            raise DatasetError(
                f"{files[-1]} must hold {instruction.examples_in_shard} whole records. "
                f"Received: {len(spans[-1])}. Prepare {builder.name} again."
            )
    # TFDS interleaves 16 files in blocks of 16 records, unless the order of the records matters.
    ends = np.cumsum([len(rows) for rows in spans])
    starts = ends - [len(rows) for rows in spans]
    order = tf.data.Dataset.from_tensor_slices((starts, ends)).interleave(
        tf.data.Dataset.range,
        cycle_length=1 if builder.info.disable_shuffling else 16,
        block_length=16,
    )
    keys = np.concatenate(spans)[order.batch(int(ends[-1])).get_single_element().numpy()]

    def read_bytes(key: np.ndarray) -> bytes:
        number, offset, length = key
        with open(files[number], "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def describe(key: np.ndarray) -> str:
        return f"the record at byte {key[1]} of {files[key[0]]}"

    def column(name: str) -> Streamed:
        feature = tfds.features.FeaturesDict({name: builder.info.features[name]})

        def read(key: tf.Tensor) -> tf.Tensor:
            record = tf.ensure_shape(tf.numpy_function(read_bytes, [key], tf.string), [])
            return feature.deserialize_example(record)[name]

        first = read_row(read, keys[0], describe)
        return Streamed(keys, read, describe, tf.TensorSpec(first.shape, first.dtype))

    return {name: column(name) for name in names}


def _records(path: str, number: int) -> np.ndarray:
    """Return (number of the file, offset, length) of each complete record, int64 [N, 3].

    A record is made of its length (8 bytes), a checksum (4 bytes), the content, and another checksum
    (4 bytes).
    """
    spans, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb", buffering=0) as file:
        while position < size:
            length = int.from_bytes(os.pread(file.fileno(), 8, position), "little")
            position += length + 16
            if position <= size:
                spans.append((number, position - length - 4, length))
    return np.array(spans, np.int64).reshape(-1, 3)
