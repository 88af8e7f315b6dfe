"""Data sets by name, `datasets.load("digits")`, with their splits and batches."""

import os
from dataclasses import replace

from dvae_tf import streamed
from dvae_tf.data.batches import (
    check_training_examples,
    evaluation_batches,
    steps_per_call,
    steps_per_epoch,
    training_batches,
)
from dvae_tf.data.holding_out import ORDERS as SPLITS
from dvae_tf.data.holding_out import divide
from dvae_tf.data.splits import (
    BINARIZATIONS,
    Dataset,
    Split,
    binarized,
    evenly_spaced,
    in_memory,
    loaded,
    mean_example,
)
from dvae_tf.kinds import KINDS, Kind
from dvae_tf.kinds.image.pixels import as_float
from dvae_tf.streamed import DatasetError, Streamed

__all__ = [
    "BINARIZATIONS",
    "CACHES",
    "SPLITS",
    "Dataset",
    "DatasetError",
    "Split",
    "Streamed",
    "as_float",
    "binarized",
    "check_training_examples",
    "choose_kind",
    "evaluation_batches",
    "evenly_spaced",
    "in_memory",
    "load",
    "mean_example",
    "steps_per_call",
    "steps_per_epoch",
    "training_batches",
]

CACHES = ("auto", "memory", "none")


def load(
    name: str,
    *,
    data_dir: str | None = None,
    split: str | None = None,
    cache: str = "auto",
    limit: int | None = None,
    kind: str | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        name: name or path of a data set, as a kind of data reads it: "digits" (scikit-learn's,
            8 x 8), "mnist", "frey", "tfds:NAME", or the path of an .npz, an .npy or a folder.
        data_dir: directory of TensorFlow Datasets; None takes TFDS_DATA_DIR, or TFDS's default.
        split: how to hold out examples: "contiguous" blocks or "random" examples. None takes
            contiguous for Frey Faces, which is a video, and random for all others.
        cache: "memory" keeps all examples in memory. "none" streams the training examples of a
            folder or of "tfds:NAME". "auto" streams them if they exceed 1 GiB, decoded. Unless
            `cache` is "memory", held-out splits of such data keep at most 128 MiB each.
        limit: number of training examples to keep (see `Dataset.limited`); None keeps all.
        kind: name of the kind of data, from `kinds.KINDS`; None takes the kind that reads the name.

    Raises:
        DatasetError: if an argument is unknown, or the data are missing, damaged or out of range.
    """
    if cache not in CACHES:
        raise DatasetError(f"`cache` must be one of {', '.join(CACHES)}. Received: {cache!r}.")
    if split not in (None, *SPLITS):
        raise DatasetError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    reader = choose_kind(name, kind)
    source = reader.load(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"), cache=cache)
    train = Split(*source.train, reader)
    test = None if source.test is None else Split(*source.test, reader)
    dataset = divide(source.name, train, test, split or source.order, source.num_held_out)
    return _cached(dataset.limited(limit), cache)


def choose_kind(name: str, kind: str | None = None) -> Kind:
    """Return the kind of data called `kind`; None takes the kind that reads the data set.

    Raises:
        DatasetError: if no kind reads the data set.
        ValueError: if no kind has that name.
    """
    if kind is not None:
        return KINDS.choose(kind)()
    for cls in KINDS.values():
        if cls.reads(name):
            return cls()
    raise DatasetError(
        f"`dataset` must be {' or '.join(cls.sources for cls in KINDS.values())}. Paths start at "
        f"the current directory. Received: {name!r}."
    )


def _cached(dataset: Dataset, cache: str) -> Dataset:
    """Return the data set with as much in memory as `cache` says."""
    train, validation, test = dataset.train, dataset.validation, dataset.test
    if not train.is_streamed:
        if cache == "none":
            raise DatasetError(
                "`cache` must be auto or memory for data that cannot be streamed. "
                f"Received: cache='none' for {dataset.name}. Choose auto."
            )
        return dataset
    hold = loaded if cache == "memory" else in_memory
    if cache == "memory" or (cache == "auto" and train.examples.nbytes <= streamed.MAX_CACHED):
        train = loaded(train)
    return replace(dataset, train=train, validation=hold(validation), test=hold(test))
