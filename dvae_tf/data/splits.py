"""Splits of a data set: stored examples and their labels, in memory or on disk."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import counts, nests
from dvae_tf.data.patches import Patches
from dvae_tf.kinds import Kind, kind_of_shape
from dvae_tf.kinds.kind import Example
from dvae_tf.streamed import MAX_CACHED, DatasetError, Streamed

BINARIZATIONS = ("dynamic", "static", "threshold", "none")
# Held-out splits are drawn with this seed whatever the seed of a run, so that runs stay comparable.
SPLIT_SEED = 0

# Most bytes that a held-out split of streamed data keeps in memory.
_MAX_HELD = MAX_CACHED // 8
# The mean of so many values in [0, 1] has a standard error of at most 0.016.
_NUM_AVERAGED = 1000


@dataclass(frozen=True, eq=False)
class Split:
    """Stored examples, and their labels where they are known.

    Attributes:
        examples: a nest of arrays [N, ...] in the form that `kind` stores; a single tensor may be a
            `Streamed` or `Patches`.
        labels: [N], or None.
        kind: kind of data; None takes the kind whose models have inputs of this shape.
        noisy: of pairs the noisy examples, in the same form; `examples` are then the clean ones.
            None if there is no recorded noise.
    """

    examples: Any
    labels: np.ndarray | Streamed | None = None
    kind: Kind = None  # type: ignore[assignment] # made in __post_init__
    noisy: Any = None

    def __post_init__(self):
        if self.kind is None:
            shape = getattr(self.examples, "shape", None)
            object.__setattr__(self, "kind", kind_of_shape(shape))
        if isinstance(self.examples, Patches) and self.is_paired:
            assert self.examples.is_aligned(self.noisy), "pairs are of the same places"

    def __len__(self) -> int:
        return nests.batch_size(self.examples)

    @property
    def images(self) -> np.ndarray | Streamed:
        """The examples, under the name that code for images uses."""
        return self.examples

    @property
    def shape(self):
        """Shape of an example, without the batch: a tuple, or a nest of tuples."""
        return tf.nest.map_structure(lambda x: tuple(x.shape[1:]), self.examples)

    @property
    def is_streamed(self) -> bool:
        """Whether the examples stay on disk."""
        return isinstance(self.examples, Streamed)

    @property
    def is_paired(self) -> bool:
        """Whether every example is a pair, noisy and clean."""
        return self.noisy is not None

    def take(self, indices) -> "Split":
        """Return the examples at a slice, or at an array of indices."""
        return self._map(lambda part: part[indices])

    @property
    def num_records(self) -> int:
        """Number of records: of examples, or of images that patches are cut from."""
        return self.examples.num_images if isinstance(self.examples, Patches) else len(self)

    def take_records(self, indices) -> "Split":
        """Return the examples of the records at a slice, or at an array of indices.

        Splits of patches are made by image, so that no two of them share a part of an image.
        """
        if isinstance(self.examples, Patches):
            return self._map(lambda part: part.of_images(indices))
        return self.take(indices)

    def as_float(self) -> Example:
        """Return all examples as float32 arrays on the scale that models see."""
        return self.kind.to_float(self.examples)

    def noisy_as_float(self) -> Example:
        """Return the noisy examples of pairs as float32 arrays on the scale that models see."""
        return self.kind.to_float(self.noisy)

    def noisy_split(self) -> "Split":
        """Return the noisy examples of pairs as a split of their own."""
        return replace(self, examples=self.noisy, labels=None, noisy=None)

    def records_as_float(self) -> Iterator[np.ndarray]:
        """Yield every record, an example or an image that patches are cut from, as float32."""
        for index in range(self.num_records):
            if isinstance(self.examples, Patches):
                yield self.kind.to_float(self.examples.image(index))
            else:
                yield self.kind.to_float(np.asarray(self.examples[index : index + 1]))[0]

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield the arrays in memory: the parts of the examples, the labels, the noisy examples."""
        noisy = tf.nest.flatten(self.noisy) if self.is_paired else []
        for array in (*tf.nest.flatten(self.examples), self.labels, *noisy):
            if isinstance(array, Patches):
                yield from (array.values, array.table, array.places)
            elif isinstance(array, np.ndarray):
                yield array

    def _map(self, function) -> "Split":
        """Apply a function to every array: to the parts of the examples, to the labels, and so on."""
        return replace(
            self,
            examples=tf.nest.map_structure(function, self.examples),
            labels=None if self.labels is None else function(self.labels),
            noisy=tf.nest.map_structure(function, self.noisy) if self.is_paired else None,
        )


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set; only the training split may be streamed.

    Attributes:
        name: name in figures and reports.
        train, validation, test: the splits.
        range: "LO,HI", the values in the files that became 0 and 1; None for the kind's own scale.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    range: str | None = None

    @property
    def kind(self) -> Kind:
        """The kind of data."""
        return self.train.kind

    @property
    def is_paired(self) -> bool:
        """Whether the examples are pairs, noisy and clean, so that batches are (noisy, clean)."""
        return self.train.is_paired

    @property
    def example_shape(self):
        """Shape of an example, without the batch: a tuple, or a nest of tuples."""
        return self.train.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`example_shape`, under the name that code for images uses: (height, width, channels)."""
        return self.example_shape

    def digest(self) -> str:
        """Return a hash of all examples and labels in memory; streamed ones are left out."""
        content = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for array in split.arrays():
                content.update(np.ascontiguousarray(array).data)  # without a copy
        return content.hexdigest()[:16]

    def limited(self, num_examples: int | None) -> "Dataset":
        """Return the data set with only the first `num_examples` training examples; None keeps all.

        Of patches, the first `num_examples` training images are kept.

        Raises:
            DatasetError: if `num_examples` is not a positive integer.
        """
        if num_examples is None:
            return self
        if not counts.is_count(num_examples):
            raise DatasetError(
                f"`limit` must be an integer of at least 1. Received: limit={num_examples!r}."
            )
        return replace(self, train=self.train.take_records(slice(num_examples)))

    def binarized(self, how: str, *, seed: int = 0) -> "Dataset":
        """Return the data set with binary values.

        Args:
            how: "threshold" cuts at 1/2. "static" draws each value once, with itself as the
                probability of 1. "dynamic" does so for validation and test only, and leaves the
                training examples to `DVAE(..., binarize=True)`, which draws them anew in every step.
                "none" changes nothing.
            seed: seed of the draws for training examples. Validation and test are the same for all
                seeds, so that runs are compared on the same examples.

        Raises:
            DatasetError: if `how` is unknown, or training examples are streamed and `how` would
                binarise them once.
            ValueError: if the kind of data has no binary values.
        """
        if how == "none":
            return self
        if how not in BINARIZATIONS:
            raise DatasetError(
                f"`binarize` must be one of {', '.join(BINARIZATIONS)}. Received: {how!r}."
            )
        if how != "dynamic" and self.train.is_streamed:
            raise DatasetError(
                "`binarize` must be dynamic or none when training examples are read from disk as "
                f"needed. Received: binarize={how!r}. Choose dynamic, or cache='memory'."
            )
        if how != "dynamic" and isinstance(self.train.examples, Patches):
            raise DatasetError(
                "`binarize` must be dynamic or none for patches, which are cut anew in every step. "
                f"Received: binarize={how!r}. Choose dynamic."
            )
        validation = binarized(self.validation, how, SPLIT_SEED, 1)
        test = binarized(self.test, how, SPLIT_SEED, 2)
        train = self.train if how == "dynamic" else binarized(self.train, how, seed, 0)
        return replace(self, train=train, validation=validation, test=test)


def binarized(split: Split, how: str, *seeds: int) -> Split:
    """Return a split with binary values: cut at 1/2 for "threshold", else drawn with the seeds."""
    return replace(split, examples=split.kind.binarized(split.examples, how, *seeds))


def evenly_spaced(count: int, number: int) -> np.ndarray:
    """Return `number` evenly spaced indices from 0 to `count` - 1; all indices if there are fewer."""
    return np.linspace(0, count - 1, min(number, count)).round().astype(int)


def in_memory(split: Split, num_examples: int | None = None) -> Split:
    """Return a split in memory: its first `num_examples`, or all for None.

    A streamed split keeps evenly spaced examples instead, of at most 128 MiB together.

    Raises:
        DatasetError: if a streamed example cannot be read; the message names it.
    """
    if not split.is_streamed:
        return split.take(slice(num_examples))
    count = len(split)
    kept = min(num_examples or count, max(_MAX_HELD * count // split.examples.nbytes, 1), count)
    return loaded(split.take(evenly_spaced(count, kept)))


def loaded(split: Split) -> Split:
    """Return a split with all its examples and labels in memory.

    Raises:
        DatasetError: if it does not fit, or an example cannot be read.
    """
    try:
        return split._map(np.asarray)
    except MemoryError as error:
        raise DatasetError(
            "`cache` must be auto or none when the examples do not fit into memory. "
            f"Received: {len(split)} examples of shape {split.shape}. Choose cache='none'."
        ) from error


def channel_moments(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, the last axis: [C] each.

    They are those of at most 1,000 examples; NaN is left out.
    """
    some = in_memory(split.take(evenly_spaced(len(split), _NUM_AVERAGED)))
    values = np.asarray(some.as_float(), np.float64)
    values = values.reshape(-1, values.shape[-1])
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def mean_example(split: Split) -> Example:
    """Return the mean example, without the batch axis.

    Of streamed examples and of patches, at most 1,000 are averaged.
    """
    some = split
    if split.is_streamed:
        some = in_memory(split, _NUM_AVERAGED)
    elif isinstance(split.examples, Patches):
        some = split.take(evenly_spaced(len(split), _NUM_AVERAGED))
    return split.kind.mean(some.examples)
