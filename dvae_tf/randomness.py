"""Random numbers as pure functions of a seed, without the state of a generator.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"). Number i is a hash of seed + (i + 1) gamma, which a compiler can merge into the loop
that uses it. The draws are the same with and without XLA: uniforms bit for bit, normals up to
rounding. TensorFlow's `stateless_uniform` and `stateless_normal` differ there, and their Philox
costs XLA ten times the instructions. The same hash splits and folds seeds. A seed is always an
int32 tensor of shape [2], as TensorFlow Probability expects it.
"""

import enum
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# SplitMix64's increment from one number to the next. `_STEPS` are the (shift, factor) of its hash.
_GAMMA = 0x9E3779B97F4A7C15
# Keep new seeds apart from the draws of the old seed, and seeds of `split` from seeds of `fold_in`.
_FOLDED, _SPLIT = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class Purpose(enum.IntEnum):
    """Folded into the seed first, so that draws for different purposes are independent."""

    TRAINING = 0
    VALIDATION = 1
    DENOISING = 2
    PRIOR = 3
    SCORING = 4
    BINARIZATION = 5


def as_seed(seed: int | Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Return `seed` as an int32 tensor of shape [2].

    Args:
        seed: an integer from 0 to 2**62 - 1, or two integers, or a tensor of two.

    Raises:
        ValueError: if an integer is out of range, or anything else does not hold two integers.
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**62:
            raise ValueError(
                f"`seed` must be an integer from 0 to 2**62 - 1. Received: seed={seed}."
            )
        return tf.constant([int(seed) & 0x7FFFFFFF, int(seed) >> 31], tf.int32)
    try:
        tensor = tf.convert_to_tensor(seed)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"`seed` must be an integer or two of them. Received: seed={seed!r}."
        ) from error
    if tensor.shape != (2,) or not tensor.dtype.is_integer:
        raise ValueError(
            "`seed` must be an integer or have shape [2] and hold integers. "
            f"Received: a tensor of shape {tuple(tensor.shape)}, {tensor.dtype.name}."
        )
    return tf.cast(tensor, tf.int32)


def fold_in(seed: tf.Tensor, *data: int | tf.Tensor) -> tf.Tensor:
    """Return a new seed: a hash of `seed` and the integers `data`, in this order."""
    for number in data:
        seed = _new_seed(seed, tf.cast(tf.cast(number, tf.int32), tf.uint64), _FOLDED)
    return seed


def split(seed: tf.Tensor, num: int = 2) -> list[tf.Tensor]:
    """Return `num` independent seeds made from one."""
    return [_new_seed(seed, tf.constant(number, tf.uint64), _SPLIT) for number in range(num)]


def _new_seed(seed: tf.Tensor, number: tf.Tensor, purpose: int) -> tf.Tensor:
    base = _hash(
        tf.bitwise.bitwise_xor(tf.bitcast(seed, tf.uint64), tf.constant(purpose, tf.uint64))
    )
    return tf.bitcast(_hash(base + number * tf.constant(_GAMMA, tf.uint64)), tf.int32)


def _hash(z: tf.Tensor) -> tf.Tensor:
    """Return SplitMix64's hash, a bijection of uint64."""
    for shift, factor in _STEPS:
        shifted = tf.bitwise.right_shift(z, tf.constant(shift, tf.uint64))
        z = tf.bitwise.bitwise_xor(z, shifted) * tf.constant(factor, tf.uint64)
    return z


def _bits(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return uint64 draws: the first numbers of SplitMix64, started at the 64 bits of the seed."""
    size = tf.reduce_prod(tf.cast(shape, tf.int64))
    place = tf.cast(tf.range(1, size + 1, dtype=tf.int64), tf.uint64)
    z = _hash(tf.bitcast(seed, tf.uint64) + place * tf.constant(_GAMMA, tf.uint64))
    return tf.reshape(z, shape)


def _top_bits(shape, seed: tf.Tensor, count: int) -> tf.Tensor:
    """Return the `count` highest bits of draws, which are the best mixed, as non-negative int64."""
    shift = tf.constant(64 - count, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(_bits(shape, seed), shift), tf.int64)


def uniform(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 draws from the uniform distribution on [0, 1): multiples of 2**-24."""
    return tf.cast(tf.cast(_top_bits(shape, seed, 24), tf.int32), tf.float32) * 2.0**-24


def normal(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 draws from N(0, 1) by inversion; their magnitude is at most 5.5."""
    return _normal_from_bits(tf.cast(_top_bits(shape, seed, 32) - 2**31, tf.int32))


def normal_maps(
    first_sample: tf.Tensor | int,
    num_samples: int,
    rows: tf.Tensor | int,
    shape: tf.Tensor,
    seed: tf.Tensor,
    *,
    origin=None,
) -> tf.Tensor:
    """Return float32 draws from N(0, 1) for maps: [num_samples, rows, h, w, c].

    Each is a function of the seed, the number of the sample, the row and the value's own place, not
    of the size of the map. So a window of a map has the draws that the complete map has there.

    Args:
        first_sample: number of the first sample.
        num_samples, rows: the leading axes.
        shape: (h, w, c), int32 [3]; below 2**24, 2**24 and 2**15.
        seed: int32 tensor [2].
        origin: place of the first value in a larger map, int32 [2]; None for (0, 0).
    """
    first = tf.zeros([2], tf.int32) if origin is None else origin

    def places(start, count, bits):
        numbers = tf.cast(start + tf.range(count), tf.uint64)
        return tf.bitwise.left_shift(numbers, tf.constant(bits, tf.uint64))

    place = (
        places(first[0], shape[0], 39)[:, None, None]
        + places(first[1], shape[1], 15)[None, :, None]
        + places(0, shape[2], 0)
    )
    each = places(first_sample, num_samples, 32)[:, None] + places(
        0, rows, 0
    )  # [num_samples, rows]
    base = _hash(tf.bitwise.bitwise_xor(tf.bitcast(seed, tf.uint64), _hash(each + 1)))
    gamma = tf.constant(_GAMMA, tf.uint64)
    z = _hash(base[:, :, None, None, None] + (place + 1) * gamma)
    top = tf.cast(tf.bitwise.right_shift(z, tf.constant(32, tf.uint64)), tf.int64)
    return _normal_from_bits(tf.cast(top - 2**31, tf.int32))


def _normal_from_bits(bits: tf.Tensor) -> tf.Tensor:
    """Return +-sqrt(2) erfinv(m), with the sign and m taken from 32 random bits.

    The highest bit is the sign. The lowest 23 bits choose one of 2**23 equal bins of (0, 1), and m
    is the midpoint of that bin.
    """
    magnitude = tf.cast(2 * tf.bitwise.bitwise_and(bits, 0x7FFFFF) + 1, tf.float32) * 2.0**-24
    # TensorFlow's erfinv goes through (1 + x) / 2, which would round to 1 in the upper tail.
    lower = np.float32(np.sqrt(2.0)) * tf.math.erfinv(-magnitude)
    return tf.where(bits < 0, lower, -lower)


def poisson(rate: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 draws from Poisson distributions, of the shape of `rate`, by inversion.

    Each draw is one fixed function of its random bits and its rate. (TensorFlow Probability has two
    samplers, and Grappler decides at run time which of them a program gets.) Below a rate of 16 the
    probabilities are summed. From there on the Cornish-Fisher expansion of the quantile (Giles
    2016, "Algorithm 955", eq. 7) is used: the total variation from the Poisson distribution is at
    most 5.1e-5, and falls with the rate.

    Args:
        rate: float32; values that are not positive count as 0. Must be finite.
    """
    rate = tf.maximum(rate, 0.0)
    is_low = rate < 16.0
    low = _poisson_by_sums(tf.where(is_low, rate, 0.0), seed)
    high = _poisson_by_expansion(tf.where(is_low, 16.0, rate), seed)
    return tf.where(is_low, low, high)


def _poisson_by_sums(rate: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the smallest n with P(N <= n) >= u."""
    # Midpoints of 2**23 bins, so that u is below 1 in float32.
    bits = tf.cast(_top_bits(tf.shape(rate), seed, 23), tf.int32)
    u = tf.cast(2 * bits + 1, tf.float32) * 2.0**-24

    def searches(n, probability, total):
        # Rounding may keep the sum of all probabilities below u: stop where they vanish.
        return (u > total) & ((probability > 1e-9) | (n < rate))

    def step(n, probability, total):
        is_searching = searches(n, probability, total)
        n = tf.where(is_searching, n + 1.0, n)
        next_probability = probability * rate / tf.maximum(n, 1.0)
        probability = tf.where(is_searching, next_probability, probability)
        return n, probability, tf.where(is_searching, total + probability, total)

    first = tf.exp(-rate)
    start = (tf.zeros_like(rate), first, first)
    return tf.while_loop(lambda *state: tf.reduce_any(searches(*state)), step, start)[0]


def _poisson_by_expansion(rate: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return floor(Q(z)), z ~ N(0, 1), where Q is the expansion of the quantile in 1/sqrt(rate)."""
    z, root = normal(tf.shape(rate), seed), tf.sqrt(rate)
    square = z * z
    first = 1.0 / 3.0 + square / 6.0
    second = -z / 36.0 - z * square / 72.0
    third = -8.0 / 405.0 + 7.0 * square / 810.0 + square * square / 270.0
    return tf.floor(rate + root * z + first + second / root + third / rate)
