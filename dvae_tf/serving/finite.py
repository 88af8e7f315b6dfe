"""Rows that hold a value which is not finite: they become zeros, and touch no neighbour.

What NaN does on its way through a network depends on the loader, so that it is kept out of it. A
nest is a tensor [B, ...] or a nest of them, whose row is invalid if a part of it is.
"""

import functools
import math
from collections.abc import Mapping

import tensorflow as tf


def guarded(nest, spec):
    """Return a nest with invalid rows set to zero, and which rows are valid, [B].

    Args:
        nest: tensors.
        spec: `tf.TensorSpec` of each, [None, ...]; other shapes are errors.
    """
    nest = tf.nest.map_structure(lambda x, s: tf.ensure_shape(x, s.shape), nest, spec)
    valid = _are_finite(tf.nest.flatten(nest))
    return tf.nest.map_structure(lambda x: _zero_where_invalid(x, valid), nest), valid


def answer(outputs: Mapping[str, tf.Tensor], valid: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the outputs with invalid rows set to zero, and `valid`.

    An input beyond any example, such as 1e30, may overflow on its way: such a row is invalid, too.
    """
    valid = valid & _are_finite(list(outputs.values()))
    return {k: _zero_where_invalid(v, valid) for k, v in outputs.items()} | {"valid": valid}


def _are_finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Return which rows are finite in all tensors: [B]."""
    return functools.reduce(tf.logical_and, map(_is_finite, tensors))


def _is_finite(values):
    # A sum is where all values are: for booleans there are no vector instructions.
    size = math.prod(values.shape[1:])
    return tf.math.is_finite(tf.reduce_sum(tf.reshape(values, [-1, size]), axis=1))


def _zero_where_invalid(values, valid):
    # Of the first version, for it selects whole rows; tf.where would broadcast over every value.
    return tf.compat.v1.where(valid, values, tf.zeros_like(values))
