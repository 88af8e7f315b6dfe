"""Nests of tensors whose first axis is the batch: an example, or a latent, of several parts.

A nest is a tensor, or a tuple, list or dict of nests (`tf.nest`). B is the batch, K and M count
copies of it.
"""

import numpy as np
import tensorflow as tf


def batch_size(nest) -> int | tf.Tensor:
    """Return B: an integer for arrays, a scalar tensor for tensors."""
    first = tf.nest.flatten(nest)[0]
    return tf.shape(first)[0] if tf.is_tensor(first) else len(first)


def repeat(nest, times: int):
    """[B, ...] -> [times B, ...]: the whole batch, one time after the other."""
    if times == 1:
        return nest
    return tf.nest.map_structure(lambda x: tf.tile(x, [times] + [1] * (len(x.shape) - 1)), nest)


def merge(nest):
    """[K, N, ...] -> [K N, ...]."""
    return tf.nest.map_structure(
        lambda x: (
            tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
            if None in x.shape[2:]
            else tf.reshape(x, [-1, *x.shape[2:]])
        ),
        nest,
    )


def merge_inner(nest):
    """[K, M, B, ...] -> [K, M B, ...]."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, [x.shape[0], -1, *x.shape[3:]]), nest)


def separate(nest, count: int, axis: int = 0):
    """Split an axis of length count B in two: [..., count B, ...] -> [..., count, B, ...]."""

    def one(x):
        shape = tf.shape(x)
        return tf.reshape(x, tf.concat([shape[:axis], [count, -1], shape[axis + 1 :]], axis=0))

    return tf.nest.map_structure(one, nest)


def take(nest, indices):
    """Return the rows of arrays at a slice or at an array of indices."""
    return tf.nest.map_structure(lambda x: x[indices], nest)


def as_matrix(nest) -> np.ndarray:
    """Return the values of each row side by side: arrays [B, ...] -> [B, values]."""
    parts = [np.asarray(x) for x in tf.nest.flatten(nest)]
    return np.concatenate([x.reshape(len(x), -1) for x in parts], axis=1)
