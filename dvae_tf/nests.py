"""Nests of tensors with the batch first, which hold examples or latents of several parts.

A nest is a tensor, or a tuple, list or dict of nests (see `tf.nest`). In shapes, B is the batch
size; K and M count copies of the batch.
"""

import numpy as np
import tensorflow as tf


def batch_size(nest) -> int | tf.Tensor:
    """Return the batch size B: an integer for arrays, a scalar tensor for tensors."""
    first = tf.nest.flatten(nest)[0]
    return tf.shape(first)[0] if tf.is_tensor(first) else len(first)


def repeat(nest, times: int | tf.Tensor):
    """Repeat the batch as a block: [B, ...] -> [times B, ...]."""
    if isinstance(times, int) and times == 1:
        return nest
    return tf.nest.map_structure(lambda x: tf.tile(x, [times] + [1] * (len(x.shape) - 1)), nest)


def merge(nest):
    """Merge the first two axes: [K, N, ...] -> [K N, ...]."""
    return tf.nest.map_structure(
        lambda x: (
            tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
            if None in x.shape[2:]
            else tf.reshape(x, [-1, *x.shape[2:]])
        ),
        nest,
    )


def merge_inner(nest):
    """Merge the second and third axes: [K, M, B, ...] -> [K, M B, ...]."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, [x.shape[0], -1, *x.shape[3:]]), nest)


def separate(nest, count: int, axis: int = 0):
    """Split an axis into two: [..., count B, ...] -> [..., count, B, ...]."""

    def one(x):
        shape = tf.shape(x)
        return tf.reshape(x, tf.concat([shape[:axis], [count, -1], shape[axis + 1 :]], axis=0))

    return tf.nest.map_structure(one, nest)


def take(nest, indices):
    """Select rows of arrays by a slice or an array of indices."""
    return tf.nest.map_structure(lambda x: x[indices], nest)


def as_matrix(nest) -> np.ndarray:
    """Flatten each row, with the parts of a nest side by side: [B, ...] -> [B, values]."""
    parts = [np.asarray(x) for x in tf.nest.flatten(nest)]
    return np.concatenate([x.reshape(len(x), -1) for x in parts], axis=1)
