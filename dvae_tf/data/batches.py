"""Batches for training and evaluation.

Batches are made by index: each is one gather from memory. Training examples that do not fit into
memory are streamed, that is, read when their batch is due. In both cases the content of a training
batch is a function of (seed, step) alone.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.data.splits import Split
from dvae_tf.streamed import Streamed


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
    split: Split, batch_size: int, *, seed: int, first_step: int = 0
) -> tf.data.Dataset:
    """Return an endless stream of training batches; batch t is a function of (seed, t) alone.

    Every epoch of `steps_per_epoch` batches goes through the split in a new order. All batches are
    full, so that one compiled program serves them; each epoch leaves out other examples. Batches
    hold no labels.

    Args:
        split: the training examples.
        batch_size: examples in a batch; a smaller split is one batch.
        seed: determines the order.
        first_step: the step of the first batch; a resumed run gives the one it stopped at.
    """
    size = min(batch_size, len(split))
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    batches = _batches(split, steps, _order(split, batch_size, seed), size, whole=True)
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
            split.examples[places(tf.constant(step, tf.int64)).numpy()].check()


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Return one pass over the examples in order; the last batch may be smaller."""
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
    examples, kind = split.examples, split.kind
    rows = size if whole else None
    shapes = [(rows, *part.shape[1:]) for part in tf.nest.flatten(examples)]

    def as_batch(stored):
        parts = tf.nest.flatten(kind.to_float_in_graph(stored))
        checked = [tf.ensure_shape(x, shape) for x, shape in zip(parts, shapes, strict=True)]
        return tf.nest.pack_sequence_as(stored, checked)

    if isinstance(examples, Streamed):
        return examples.stream(numbers.map(places).unbatch()).batch(size).map(as_batch)
    with tf.device("CPU"):  # keep the data in host memory
        held = tf.nest.map_structure(tf.constant, examples)

    def gather(number):
        indices = places(number)
        return as_batch(tf.nest.map_structure(lambda x: tf.gather(x, indices), held))

    return numbers.map(gather)
