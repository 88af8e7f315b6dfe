"""Choosing the examples that are held out for validation and test."""

import numpy as np

from dvae_tf.data.splits import SPLIT_SEED, Dataset, Split
from dvae_tf.streamed import DatasetError

ORDERS = ("contiguous", "random")


def divide(
    name: str, examples: Split, test: Split | None, order: str, num_held_out: int | None = None
) -> Dataset:
    """Hold out a validation split, and a test split if the data set has none of its own.

    The choice does not depend on the seed of a run. Patches are held out with their images.

    Args:
        name: name of the data set.
        examples: all examples outside the data set's own test split.
        test: the data set's own test split, or None.
        order: "random" holds out random examples, "contiguous" holds out blocks.
        num_held_out: examples (of patches, images) to hold out for each split; None takes a
            tenth.

    Raises:
        DatasetError: if there are too few examples.
    """
    count = examples.num_records
    num_parts = 2 if test is None else 1
    if count < num_parts + 1:
        raise DatasetError(
            f"The data set must have at least {num_parts + 1} {examples.kind.noun}s, one for each "
            "split. "
            f"Received: {count} in {name}."
        )
    size = min(num_held_out or max(count // 10, 1), (count - 1) // num_parts)
    if order == "random":
        shuffled = np.random.default_rng(SPLIT_SEED).permutation(count)
        held_out = [np.sort(shuffled[size * i : size * (i + 1)]) for i in range(num_parts)]
    else:
        held_out = _blocks(count, size, num_parts)
    kept = np.setdiff1d(np.arange(count), np.concatenate(held_out))
    validation = examples.take_records(held_out[0])
    test = examples.take_records(held_out[1]) if test is None else test
    return Dataset(name, examples.take_records(kept), validation, test)


def _blocks(count: int, size: int, num_parts: int, num_blocks: int = 4) -> list[np.ndarray]:
    """Return `num_parts` index sets of length `size`, made of contiguous blocks.

    The sequence is cut into equal stretches, and each stretch gives one block to every part. So all
    parts cover the whole sequence, and only the edges of blocks have near neighbours elsewhere.
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
