"""Handling of rows with NaN or infinity: they become zeros, and do not affect other rows.

Loaders treat NaN in a network differently, so it never enters the network. If the inputs are a nest
of tensors [B, ...], a row is invalid if any of its parts is.
"""

import functools
import math
from collections.abc import Mapping

import tensorflow as tf


def guarded(nest, spec):
    """Return a nest with its invalid rows set to zero, and booleans, [B], that tell valid rows.

    Args:
        nest: a nest of tensors, [B, ...].
        spec: the `tf.TensorSpec` of each tensor, [None, ...]; other shapes are errors.
    """
    nest = tf.nest.map_structure(lambda x, s: tf.ensure_shape(x, s.shape), nest, spec)
    valid = _are_finite(tf.nest.flatten(nest))
    return tf.nest.map_structure(lambda x: _zero_where_invalid(x, valid), nest), valid


def answer(outputs: Mapping[str, tf.Tensor], valid: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the outputs with invalid rows set to zero, and `valid`.

    A row is also invalid if its outputs are not finite: an input such as 1e30 may overflow.
    """
    valid = valid & _are_finite(list(outputs.values()))
    return {k: _zero_where_invalid(v, valid) for k, v in outputs.items()} | {"valid": valid}


def _are_finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Return booleans, [B], that tell the rows that are finite in all tensors."""
    return functools.reduce(tf.logical_and, map(_is_finite, tensors))


def _is_finite(values):
    # A sum is finite if all values are. Sums use vector instructions; reductions of booleans do not.
    if None in values.shape[1:]:
        shape = tf.shape(values)
        size = tf.reduce_prod(shape[1:])
        return tf.math.is_finite(tf.reduce_sum(tf.reshape(values, [shape[0], size]), axis=1))
    size = math.prod(values.shape[1:])
    return tf.math.is_finite(tf.reduce_sum(tf.reshape(values, [-1, size]), axis=1))


def _zero_where_invalid(values, valid):
    # TensorFlow 1's `where` selects entire rows; tf.where would broadcast over every value.
    return tf.compat.v1.where(valid, values, tf.zeros_like(values))
