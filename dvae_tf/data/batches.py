"""Batches for training and evaluation.

Batches are made by index: each is one gather from memory. Training examples that do not fit into
memory are streamed, that is, read when their batch is due. Patches are cut from images in memory, at
random places. In all cases the content of a training batch is a function of (seed, step) alone.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.data.patches import Patches, gatherer
from dvae_tf.data.splits import Split


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return how many batches an epoch has; a split smaller than a batch makes one.

    All batches are full. An epoch of more than 64 batches also leaves out the last few that do not
    fill a call of `steps_per_call` steps.
    """
    steps = max(len(split) // batch_size, 1)
    return steps - steps % steps_per_call(steps)


def steps_per_call(steps: int) -> int:
    """Return how many steps of an epoch run in one call of TensorFlow, which saves overhead.

    Up to 64 steps run in one call. Longer epochs take the number from 32 to 64 that leaves the
    smallest remainder, and of several such numbers the largest.
    """
    if steps <= 64:
        return steps
    return min(range(32, 65), key=lambda number: (steps % number, -number))


def training_batches(
    split: Split, batch_size: int, *, seed: int, first_step: int = 0, augment: bool = False
) -> tf.data.Dataset:
    """Return an endless stream of training batches; batch t is a function of (seed, t) alone.

    Every epoch of `steps_per_epoch` batches goes through the split in a new order. All batches are
    full, so that one compiled program serves them; each epoch leaves out other examples. Batches
    hold no labels; batches of pairs are (noisy, clean).

    Each patch stands for its image, so that an epoch takes as many patches from every image as its
    grid has, but at new random places.

    Args:
        split: the training examples.
        batch_size: examples in a batch; a smaller split is one batch.
        seed: determines the order.
        first_step: the step of the first batch; a resumed run gives the one it stopped at.
        augment: whether to turn and flip patches at random, in one of eight ways.
    """
    size = min(batch_size, len(split))
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    places = _order(split, batch_size, seed)
    if isinstance(split.examples, Patches):
        gather = gatherer(*_parts(split))
        (_, place_seed) = randomness.split(randomness.as_seed(seed))

        def at_random_places(step):
            seed = randomness.fold_in(place_seed, step)
            return gather(places(step), seed=seed, augment=augment)

        return steps.map(_as_batches(split, at_random_places, size)).prefetch(tf.data.AUTOTUNE)
    batches = _batches(split, steps, places, size, whole=True)
    # With streamed batches AUTOTUNE would enlarge the buffer as long as reading is the bottleneck.
    return batches.prefetch(2 if split.is_streamed else tf.data.AUTOTUNE)


def check_training_examples(split: Split, batch_size: int, *, seed: int, first_step: int) -> None:
    """Read one epoch of streamed training batches again, to find out why a step failed.

    Raises:
        DatasetError: if a streamed example cannot be read; the message names it.
    """
    if split.is_streamed:
        places = _order(split, batch_size, seed)
        for step in range(first_step, first_step + steps_per_epoch(split, batch_size)):
            indices = places(tf.constant(step, tf.int64)).numpy()
            for part in _parts(split):
                part[indices].check()


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Return one pass over the examples in order, or over pairs; the last batch may be smaller."""
    count = len(split)

    def places(start):
        return tf.range(start, tf.minimum(start + batch_size, count))

    starts = tf.data.Dataset.range(0, count, batch_size)
    return _batches(split, starts, places, batch_size, whole=False).prefetch(2)


def _order(split: Split, batch_size: int, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from a step to the indices of its training batch."""
    steps = steps_per_epoch(split, batch_size)
    size = min(batch_size, len(split))
    (order_seed,) = randomness.split(randomness.as_seed(seed), 1)

    def places(step):
        epoch, index = step // steps, tf.cast(step % steps, tf.int32)
        seed = randomness.fold_in(order_seed, epoch)
        return _shuffled(index * size + tf.range(size), seed, len(split))

    return places


def _shuffled(indices: tf.Tensor, seed: tf.Tensor, count: int) -> tf.Tensor:
    """Apply a random permutation of `count` examples to the indices.

    One pass of TensorFlow's `index_shuffle` is not random enough (see benchmarks/NOTES.md). Up to
    65,536 examples it knows only 65,536 orders, so that epochs repeat; and the batches of one order
    are too similar. Two passes with separate seeds show neither flaw.
    """
    for each in randomness.split(seed):
        indices = tf.random.experimental.index_shuffle(indices, each, max_index=count - 1)
    return indices


def _batches(
    split: Split, numbers: tf.data.Dataset, places: Callable, size: int, *, whole: bool
) -> tf.data.Dataset:
    """Return a batch of floats for each of the numbers: the examples at `places(number)`."""
    rows = size if whole else None
    if split.is_streamed:
        indices = numbers.map(places).unbatch()
        streams = tuple(part.stream(indices) for part in _parts(split))
        stored = tf.data.Dataset.zip(streams).batch(size)
        return stored.map(_as_batches(split, lambda *parts: parts, rows))
    if isinstance(split.examples, Patches):
        gather = gatherer(*_parts(split))
    else:
        with tf.device("CPU"):  # keep the data in host memory
            held = tf.nest.map_structure(tf.constant, _parts(split))

        def gather(indices):
            return tf.nest.map_structure(lambda x: tf.gather(x, indices), held)

    return numbers.map(_as_batches(split, lambda number: gather(places(number)), rows))


def _parts(split: Split) -> list:
    """Return what a batch is made of: the noisy examples, if there are pairs, and the examples."""
    return [split.noisy, split.examples] if split.is_paired else [split.examples]


def _as_batches(split: Split, gather: Callable, rows: int | None) -> Callable:
    """Return a function that gathers `_parts`, and makes of them a batch as models take it.

    Args:
        split: the examples.
        gather: returns the stored parts.
        rows: number of examples in a batch, or None.
    """
    shapes = [
        [(rows, *x.shape[1:]) for x in tf.nest.flatten(examples)] for examples in _parts(split)
    ]

    def as_batch(stored, shapes):
        parts = tf.nest.flatten(split.kind.to_float_in_graph(stored))
        checked = [tf.ensure_shape(x, shape) for x, shape in zip(parts, shapes, strict=True)]
        return tf.nest.pack_sequence_as(stored, checked)

    def batch(*numbers):
        batches = [as_batch(*part) for part in zip(gather(*numbers), shapes, strict=True)]
        return tuple(batches) if split.is_paired else batches[0]

    return batch
