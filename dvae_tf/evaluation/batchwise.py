"""Applying a function of a batch to many examples."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dvae_tf import nests
from dvae_tf.kinds.kind import Example


def batchwise(function: Callable, examples: Example, batch_size: int):
    """Apply a function to batches of examples, and join its results.

    Args:
        function: takes examples [B, ...], and returns a nest of tensors or arrays [B, ...].
        examples: a nest of arrays [N, ...].
        batch_size: B of all batches but the last, which may be smaller.

    Returns:
        a nest of arrays, [N, ...].
    """
    starts = range(0, nests.batch_size(examples), batch_size)
    return joined([function(nests.take(examples, slice(i, i + batch_size))) for i in starts])


def joined(parts: list):
    """Concatenate the results of batches: nests of [B, ...] -> a nest of [N, ...]."""
    return tf.nest.map_structure(
        lambda *rows: np.concatenate([np.asarray(r) for r in rows]), *parts
    )
