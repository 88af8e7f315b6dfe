"""Splits of a data set: stored examples, their labels, and how much of them is in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import counts, nests
from dvae_tf.kinds import Kind, kind_of_shape
from dvae_tf.kinds.kind import Example
from dvae_tf.streamed import MAX_CACHED, DatasetError, Streamed

BINARIZATIONS = ("dynamic", "static", "threshold", "none")
# Draws for held-out splits do not depend on the seed of a run: runs stay comparable.
SPLIT_SEED = 0

# Bytes of a held-out split that could be streamed: it has a tenth of the examples.
_MAX_HELD = MAX_CACHED // 8
# A mean of streamed examples in [0, 1] over so many has no standard error above 0.016.
_NUM_AVERAGED = 1000


@dataclass(frozen=True, eq=False)
class Split:
    """Stored examples, and their labels where they are known.

    Attributes:
        examples: a nest of arrays [N, ...], or for one tensor a `Streamed`. Images are uint8 in
            0..255 or float32 in [0, 1], [N, H, W, C].
        labels: [N], or None.
        kind: of data; None takes the kind whose models have inputs of this shape.
    """

    examples: Any
    labels: np.ndarray | Streamed | None = None
    kind: Kind = None  # type: ignore[assignment] # made in __post_init__

    def __post_init__(self):
        if self.kind is None:
            shape = getattr(self.examples, "shape", None)
            object.__setattr__(self, "kind", kind_of_shape(shape))

    def __len__(self) -> int:
        return nests.batch_size(self.examples)

    @property
    def images(self) -> np.ndarray | Streamed:
        """The examples, where they are images."""
        return self.examples

    @property
    def shape(self):
        """Shape of an example, without the batch: a tuple, or a nest of tuples."""
        return tf.nest.map_structure(lambda x: tuple(x.shape[1:]), self.examples)

    @property
    def is_streamed(self) -> bool:
        """Whether the examples stay on disk."""
        return isinstance(self.examples, Streamed)

    def take(self, indices) -> "Split":
        """Return the examples at a slice, or at an array of indices."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, examples=nests.take(self.examples, indices), labels=labels)

    def as_float(self) -> Example:
        """Return all examples as float32 arrays on the scale that models see."""
        return self.kind.to_float(self.examples)

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield what is in memory: parts of the examples, then the labels."""
        for array in (*tf.nest.flatten(self.examples), self.labels):
            if isinstance(array, np.ndarray):
                yield array


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set; only the training split may be streamed."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def kind(self) -> Kind:
        """The kind of data."""
        return self.train.kind

    @property
    def example_shape(self):
        """Shape of an example, without the batch: a tuple, or a nest of tuples."""
        return self.train.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an example, where they are images: (height, width, channels)."""
        return self.example_shape

    def digest(self) -> str:
        """Return a hash of all examples and labels that are in memory."""
        content = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in split.arrays():
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
        """Return the data set with binary values.

        Args:
            how: "threshold" at 1/2; "static", each value drawn once with itself as probability;
                "dynamic", the same for validation and test, while the training examples stay as
                they are: `DVAE(..., binarize=True)` draws them anew for every step; "none".
            seed: of the training examples' draws. Validation and test are drawn alike for every
                seed, so that runs are compared on the same examples.

        Raises:
            DatasetError: if `how` is unknown, would change streamed examples for good, or the kind
                of data has no binary values.
        """
        if how == "none":
            return self
        if how not in BINARIZATIONS:
            raise DatasetError(
                f"`binarize` must be one of {', '.join(BINARIZATIONS)}. Received: {how!r}."
            )
        if how != "dynamic" and self.train.is_streamed:
            raise DatasetError(
                "`binarize` must be dynamic or none where examples are read from disk as they are "
                f"needed. Received: binarize={how!r}. Choose dynamic, or cache='memory'."
            )
        validation = binarized(self.validation, how, SPLIT_SEED, 1)
        test = binarized(self.test, how, SPLIT_SEED, 2)
        train = self.train if how == "dynamic" else binarized(self.train, how, seed, 0)
        return replace(self, train=train, validation=validation, test=test)


def binarized(split: Split, how: str, *seeds: int) -> Split:
    """Return a split with binary values: cut at a "threshold" of 1/2, or else drawn with the seeds."""
    return replace(split, examples=split.kind.binarized(split.examples, how, *seeds))


def evenly_spaced(count: int, number: int) -> np.ndarray:
    """Return `number` places among `count`, from the first to the last, as far apart as possible.

    Where there are fewer, it is all of them.
    """
    return np.linspace(0, count - 1, min(number, count)).round().astype(int)


def in_memory(split: Split, num_examples: int | None = None) -> Split:
    """Return the first `num_examples`, or all; of streamed ones evenly spaced ones, up to 128 MiB.

    Raises:
        DatasetError: if a streamed example cannot be read; the message names it.
    """
    if not isinstance(split.examples, Streamed):
        return split.take(slice(num_examples))
    count = len(split)
    kept = min(num_examples or count, max(_MAX_HELD * count // split.examples.nbytes, 1), count)
    return loaded(split.take(evenly_spaced(count, kept)))


def loaded(split: Split) -> Split:
    """Return a split with all of it in memory.

    Raises:
        DatasetError: if it does not fit, or an example cannot be read.
    """
    try:
        examples = tf.nest.map_structure(np.asarray, split.examples)
    except MemoryError as error:
        raise DatasetError(
            "`cache` must be auto or none where the examples do not fit into memory. "
            f"Received: {len(split)} examples of shape {split.shape}. Choose cache='none'."
        ) from error
    labels = None if split.labels is None else np.asarray(split.labels)
    return replace(split, examples=examples, labels=labels)


def mean_example(split: Split) -> Example:
    """Return the mean of a split, without the batch; of a streamed one the mean of 1,000."""
    some = in_memory(split, _NUM_AVERAGED) if split.is_streamed else split
    return split.kind.mean(some.examples)
