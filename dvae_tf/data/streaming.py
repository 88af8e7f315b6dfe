"""Arrays whose rows stay on disk until they are asked for: files of images, records of TFDS."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


class DatasetError(ValueError):
    """The data asked for cannot be used; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """An array [N, ...] whose rows are read when they are needed. NumPy reads all of them.

    Args:
        keys: [N, ...], which say where each row is.
        read: from one key to its row, in a graph; a row that cannot be read is an `OpError`.
        describe: from one key to words that name the row.
        spec: shape and type of a row.
    """

    keys: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    describe: Callable[[Any], str]
    spec: tf.TensorSpec

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, indices) -> "Streamed":
        """Return the rows of a slice or of an array of indices; none is read yet."""
        return replace(self, keys=self.keys[indices])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.spec.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.spec.dtype.as_numpy_dtype)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        rows = np.empty(self.shape, self.dtype)
        try:
            stream = self.stream(tf.data.Dataset.range(len(self)))
            for index, row in enumerate(stream.as_numpy_iterator()):
                rows[index] = row
        except tf.errors.OpError:
            self.check()
            raise
        return rows if dtype is None else rows.astype(dtype)

    def stream(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        """Return the rows at the indices, in their order, read by as many threads as help."""
        with tf.device("CPU"):
            keys = tf.constant(self.keys)
        return indices.map(
            lambda index: tf.ensure_shape(self.read(tf.gather(keys, index)), self.spec.shape),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def check(self) -> None:
        """Read one row after the other.

        Raises:
            DatasetError: which names the first that is damaged, missing or of another shape.
        """
        for key in self.keys:
            shape = tuple(_row(self.read, key, self.describe).shape)
            if shape != self.shape[1:]:
                raise DatasetError(
                    "All images must have one size and one number of channels. Received: "
                    f"{shape} in {self.describe(key)}, {self.shape[1:]} in the others."
                )


def _row(read, key: np.ndarray, describe) -> tf.Tensor:
    """Return a row, or say which one it is that cannot be read."""
    try:
        return read(tf.constant(key))
    except tf.errors.OpError as error:
        raise DatasetError(
            f"{describe(key)} must be a readable image. Received: {first_line(error)}. "
            "Remove or repair it."
        ) from error


# ---- files of images ----


def image_files(files: Sequence[Path]) -> Streamed:
    """Return the images of files of one size, uint8 [N, H, W, C].

    Every header is read, and of each kind of header one file is decoded.

    Raises:
        DatasetError: if an image has another shape than the first one, or a header is damaged.
    """
    keys = np.array([os.fsencode(file) for file in files])
    first = _row(_read_image, keys[0], os.fsdecode)
    images = Streamed(keys, _read_image, os.fsdecode, tf.TensorSpec(first.shape, tf.uint8))
    kinds: dict = {}
    for index, file in enumerate(files):
        kinds.setdefault(_kind(file) or file, index)
    images[list(kinds.values())].check()
    return images


def _kind(file: Path) -> tuple | None:
    """Return what a header says of the shape of its image; None if Pillow cannot read it."""
    import PIL.Image

    try:
        with PIL.Image.open(file) as image:
            return image.format, image.mode, image.size, "transparency" in image.info
    except Exception:  # Pillow raises many types on a damaged file; TensorFlow will say what it is
        return None


def _read_image(path: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    channels = tf.shape(image)[-1]
    return image[..., : channels - (channels + 1) % 2]  # an alpha channel is no part of the picture


# ---- records of TensorFlow Datasets ----


def tfds_columns(builder, split: str, names: Sequence[str]) -> dict[str, Streamed]:
    """Return features of a split of TensorFlow Datasets, in the order in which TFDS reads it.

    TFRecord files have no index: one is made from the lengths that precede the records. Their
    checksums are not compared.

    Raises:
        DatasetError: if the split is not in whole TFRecord files.
    """
    import tensorflow_datasets as tfds

    if builder.info.file_format.value != "tfrecord":
        raise DatasetError(
            "A data set of TensorFlow Datasets must lie in tfrecord files to be streamed. Received: "
            f"{builder.info.file_format.value} for {builder.name}. Prepare it in another --data-dir."
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
    # TFDS takes 16 records in turn from each of 16 files, unless their order has a meaning.
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

        first = _row(read, keys[0], describe)
        return Streamed(keys, read, describe, tf.TensorSpec(first.shape, first.dtype))

    return {name: column(name) for name in names}


def _records(path: str, number: int) -> np.ndarray:
    """Return (number of the file, offset, length) of each whole record, int64 [N, 3].

    A record is its length in 8 bytes, a checksum in 4, the content, and a checksum in 4.
    """
    spans, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb", buffering=0) as file:
        while position < size:
            length = int.from_bytes(os.pread(file.fileno(), 8, position), "little")
            position += length + 16
            if position <= size:
                spans.append((number, position - length - 4, length))
    return np.array(spans, np.int64).reshape(-1, 3)


def first_line(error: BaseException) -> str:
    """Return the message of an error in one short line."""
    # TensorFlow's names of nodes
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]| name: *$", "", str(error))
    text = re.sub(r"\s+", " ", text).strip(" .") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
