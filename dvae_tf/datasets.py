"""Data sets by name, `datasets.load("digits")`, with their splits and batches."""

import os
from dataclasses import replace

from dvae_tf import counts, streamed
from dvae_tf.data.batches import (
    check_training_examples,
    evaluation_batches,
    steps_per_call,
    steps_per_epoch,
    training_batches,
)
from dvae_tf.data.holding_out import ORDERS as SPLITS
from dvae_tf.data.holding_out import divide
from dvae_tf.data.patches import Patches
from dvae_tf.data.splits import (
    BINARIZATIONS,
    Dataset,
    Split,
    binarized,
    channel_moments,
    evenly_spaced,
    in_memory,
    loaded,
    mean_example,
)
from dvae_tf.kinds import KINDS, Kind
from dvae_tf.kinds.image.pixels import as_float
from dvae_tf.kinds.kind import Recording, Source
from dvae_tf.streamed import DatasetError, Streamed

__all__ = [
    "BINARIZATIONS",
    "CACHES",
    "SPLITS",
    "Dataset",
    "DatasetError",
    "Patches",
    "Split",
    "Streamed",
    "as_float",
    "binarized",
    "channel_moments",
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
    clean: str | None = None,
    patch: int | None = None,
    range: str | None = None,
    is_noisy: bool = False,
) -> Dataset:
    """Load a data set.

    Images are in [0, 1], in the folder of files of one size; `clean`, `patch`, `range` and `is_noisy`
    lift these limits, and read everything into memory. An .npz with `x_noisy` and `x_clean` holds
    pairs.

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
        clean: folder with a clean image for every noisy one in the folder `name`, matched by name, or
            such an .npy beside an .npy.
        patch: P, to cut patches of P x P pixels from images of any size; None keeps images whole.
        range: the values that become 0 and 1: "LO,HI", or "percentile:A,B" of all (clean) values.
            None takes 0 and the type's greatest value for integers, 0 and 1 for floats.
        is_noisy: whether the images are noisy, so that they may leave [0, 1] and hold NaN.

    Raises:
        DatasetError: if an argument is unknown, or the data are missing, damaged or out of range.
    """
    if cache not in CACHES:
        raise DatasetError(f"`cache` must be one of {', '.join(CACHES)}. Received: {cache!r}.")
    if split not in (None, *SPLITS):
        raise DatasetError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    if patch is not None and not counts.is_count(patch):
        raise DatasetError(f"`patch` must be an integer of at least 1. Received: patch={patch!r}.")
    reader = choose_kind(name, kind)
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    recording = Recording(clean, range, is_noisy, any_size=patch is not None)
    if recording == Recording():
        source = reader.load(name, data_dir=data_dir, cache=cache)
    else:
        source = reader.load_recorded(name, recording, data_dir=data_dir)
    train, test = _splits(source, reader, patch)
    dataset = divide(source.name, train, test, split or source.order, source.num_held_out)
    return _cached(replace(dataset.limited(limit), range=source.range), cache)


def _splits(source: Source, kind: Kind, patch: int | None) -> tuple[Split, Split | None]:
    """Return what a kind has read as splits: all examples, and the data set's own test split."""

    def split(examples, labels, noisy=None) -> Split:
        if patch is None:
            return Split(examples, labels, kind, noisy)
        cut = None if noisy is None else Patches.of(noisy, patch)
        return Split(Patches.of(examples, patch), None, kind, cut)

    test = None if source.test is None else split(*source.test)
    return split(*source.train, source.noisy), test


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
