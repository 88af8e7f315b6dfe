"""Random numbers as a pure function of a seed: no generator keeps a state.

Every draw is made from raw Philox bits. TensorFlow's own `stateless_uniform` and
`stateless_normal` turn the same bits into different numbers with and without XLA; the
conversions below give the same numbers in both (uniforms bit for bit, normals to rounding).
A seed is an int32 tensor of shape [2] throughout, as TensorFlow Probability wants it.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_ALGORITHM = "philox"


def as_seed(seed: int | Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Return `seed` as an int32 tensor of shape [2].

    Args:
        seed: a non-negative Python integer below 2**62, or two integers, or a tensor of two.

    Raises:
        ValueError: if an integer is out of range or a tensor is not of shape [2].
    """
    if isinstance(seed, (int, np.integer)):
        if not 0 <= seed < 2**62:
            raise ValueError(
                f"`seed` must be an integer from 0 to 2**62 - 1. Received: seed={seed}."
            )
        return tf.constant([int(seed) & 0x7FFFFFFF, int(seed) >> 31], tf.int32)
    tensor = tf.cast(tf.convert_to_tensor(seed), tf.int32)
    if tensor.shape != (2,):
        raise ValueError(
            "`seed` must be an integer or have shape [2]. "
            f"Received: a tensor of shape {tuple(tensor.shape)}."
        )
    return tensor


def fold_in(seed: tf.Tensor, *data: int | tf.Tensor) -> tf.Tensor:
    """Return a new seed that is a hash of `seed` and the integers `data`, in order."""
    for number in data:
        seed = tf.random.fold_in(seed, tf.cast(number, tf.int32), alg=_ALGORITHM)
    return seed


def split(seed: tf.Tensor, num: int = 2) -> list[tf.Tensor]:
    """Return `num` independent seeds made from one."""
    return tf.unstack(tf.random.split(seed, num, alg=_ALGORITHM), num=num)


def _bits(shape, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=_ALGORITHM
    )


def uniform(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 draws from the uniform distribution on [0, 1): multiples of 2**-24."""
    bits = tf.bitwise.bitwise_and(_bits(shape, seed), 0xFFFFFF)
    return tf.cast(bits, tf.float32) * 2.0**-24


def normal(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 draws from N(0, 1), by inversion; none exceeds 5.5 in magnitude."""
    return _normal_from_bits(_bits(shape, seed))


def _normal_from_bits(bits: tf.Tensor) -> tf.Tensor:
    """Return sqrt(2) erfinv(m) with a sign: one bit of 32 is the sign, 23 are the magnitude.

    m is the midpoint of one of 2**23 equal bins of (0, 1).
    """
    magnitude = tf.cast(2 * tf.bitwise.bitwise_and(bits, 0x7FFFFF) + 1, tf.float32) * 2.0**-24
    # TensorFlow inverts through (1 + x) / 2, which would round to 1 in the upper tail.
    lower = np.float32(np.sqrt(2.0)) * tf.math.erfinv(-magnitude)
    return tf.where(bits < 0, lower, -lower)
