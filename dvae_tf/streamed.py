"""Arrays whose rows stay on disk until they are needed."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

# With `cache="auto"`, larger training splits are streamed: their size in bytes, decoded.
MAX_CACHED = 2**30


class DatasetError(ValueError):
    """The data cannot be used; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """An array [N, ...] whose rows are read when they are needed; `np.asarray` reads all.

    Args:
        keys: [N, ...], one key for each row, which says where the row is.
        read: a function from a key to its row, in a graph; it raises `OpError` if it fails.
        describe: a function from a key to words that name the row, for messages.
        spec: shape and type of a row.
    """

    keys: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    describe: Callable[[Any], str]
    spec: tf.TensorSpec

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, indices) -> "Streamed":
        """Select rows by a slice or an array of indices, without reading them."""
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
        """Return the rows at the indices, in that order; several threads read ahead."""
        with tf.device("CPU"):
            keys = tf.constant(self.keys)
        return indices.map(
            lambda index: tf.ensure_shape(self.read(tf.gather(keys, index)), self.spec.shape),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def check(self) -> None:
        """Read all rows one by one, to name the first one that is at fault.

        Raises:
            DatasetError: if a row is damaged, missing or of another shape.
        """
        for key in self.keys:
            shape = tuple(read_row(self.read, key, self.describe).shape)
            if shape != self.shape[1:]:
                raise DatasetError(
                    "All examples must have one shape. Received: "
                    f"{shape} in {self.describe(key)}, {self.shape[1:]} in the others."
                )


def read_row(read, key: np.ndarray, describe) -> tf.Tensor:
    """Return the row of a key.

    Raises:
        DatasetError: if it cannot be read; the message names it.
    """
    try:
        return read(tf.constant(key))
    except tf.errors.OpError as error:
        raise DatasetError(
            f"{describe(key)} must be a readable image. Received: {first_line(error)}. "
            "Remove or repair it."
        ) from error


def first_line(error: BaseException) -> str:
    """Return the message of an error in one line of at most 200 characters."""
    # Drop the names of graph nodes that TensorFlow adds.
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]| name: *$", "", str(error))
    text = re.sub(r"\s+", " ", text).strip(" .") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
