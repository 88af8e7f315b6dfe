"""The base class of corruptions, and their registry."""

from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.configured import Configured
from dvae_tf.kinds.image import pixels
from dvae_tf.registry import Registry

Level = float | tuple[float, float]

CORRUPTIONS: Registry[type["Corruption"]] = Registry("noise", "dvae_tf.corruptions")


def _check_level(level, meaning: str, is_fraction: bool) -> Level:
    """Return `level` as a float or a pair of floats, or raise with the reason and a remedy."""
    is_range = isinstance(level, (tuple, list))
    values = tuple(level) if is_range else (level,)
    required = f"`level` must be a number in [0, 1], or a pair (low, high) of them: {meaning}."
    if is_range and len(values) != 2:
        raise ValueError(f"{required} Received: level={level!r}.")
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__float__"):
            raise TypeError(f"{required} Received: level={level!r}.")
        if not 0.0 <= float(value) <= 1.0:
            remedy = " Give a level from 0 (no corruption) to 1."
            if is_fraction and 1.0 < float(value) <= 100.0:
                remedy = f" For {float(value):g} % give {float(value) / 100:g}."
            elif not is_fraction and 1.0 < float(value) <= pixels.WHITE:
                remedy = (
                    " Levels are on the [0, 1] pixel scale: for "
                    f"{float(value):g} on the 0-{pixels.WHITE} scale give {value * pixels.STEP:.3g}."
                )
            raise ValueError(f"{required} Received: level={level!r}.{remedy}")
    if not is_range:
        return float(level)
    low, high = (float(value) for value in values)
    if low > high:
        raise ValueError(f"{required} Received: level={level!r}. Give the lower level first.")
    return low, high


def highest(level) -> float:
    """Return a level, or the upper end of a range of levels."""
    return max(level) if isinstance(level, (tuple, list)) else level


class Corruption(Configured):
    """Base class of corruptions p(x~|x). A subclass defines `corrupt` and the attributes below.

    Args:
        level: strength of the corruption in [0, 1], or a pair (low, high) from which each example
            draws its own level uniformly. Each subclass says what the level measures.
        clip: whether to clip the corrupted values to [0, 1].

    Attributes:
        name: name on the command line.
        label: name for people.
        effect: what it does, in words.
        level_means: what the level measures, in words.
        level_is_fraction: whether the level is a fraction (messages then suggest percentages).
        default_level: the level that train.py takes by default.

    Raises:
        TypeError: if the level is not a number or a pair of numbers.
        ValueError: if a level lies outside [0, 1] or a pair is not in order.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    effect: ClassVar[str] = ""
    level_means: ClassVar[str]
    level_is_fraction: ClassVar[bool] = False
    default_level: ClassVar[float] = 0.1

    def __init__(self, level: Level = 0.1, *, clip: bool = False):
        self.level = _check_level(level, self.level_means, self.level_is_fraction)
        self.clip = bool(clip)

    @classmethod
    def of_level(cls, level: Level | None, *, clip: bool) -> "Corruption":
        """Return a corruption of this level; None takes the class's default."""
        return cls(clip=clip) if level is None else cls(level, clip=clip)

    def __call__(self, x, *, seed) -> tf.Tensor:
        """Draw x~ ~ p(x~|x).

        Args:
            x: [batch, ...], values in [0, 1]; or a tuple or dict of tensors, each with noise of its
                own.
            seed: an integer, or an int32 tensor of shape [2].

        Returns:
            float32, with the shape of `x`; a pure function of `x` and `seed`.
        """
        seed = randomness.as_seed(seed)
        if not isinstance(x, (tuple, dict)):
            return self._corrupt_tensor(tf.cast(x, tf.float32), seed)
        parts = tf.nest.flatten(x)
        noisy = [
            self._corrupt_tensor(tf.cast(part, tf.float32), randomness.fold_in(seed, index))
            for index, part in enumerate(parts)
        ]
        return tf.nest.pack_sequence_as(x, noisy)

    def _corrupt_tensor(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        level_seed, noise_seed = randomness.split(seed)
        noisy = self.corrupt(x, self._draw_level(x, level_seed), noise_seed)
        return tf.clip_by_value(noisy, 0.0, 1.0) if self.clip else noisy

    def corrupt(self, x: tf.Tensor, level: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return x~ at a level that broadcasts against `x`. Subclasses define this method."""
        raise NotImplementedError

    def _draw_level(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if isinstance(self.level, float):
            return tf.constant(self.level, tf.float32)
        low, high = self.level
        shape = tf.concat([tf.shape(x)[:1], tf.ones([tf.rank(x) - 1], tf.int32)], axis=0)
        return low + (high - low) * randomness.uniform(shape, seed)  # [B, 1, ...]

    def describe(self, in_units: Callable[[float], str] | None = None) -> str:
        """Return the process in one phrase.

        Args:
            in_units: turns a standard deviation into words, in familiar units.
        """
        levels = (self.level,) if isinstance(self.level, float) else self.level
        return f"{self.name}, level={' to '.join(f'{level:g}' for level in levels)}"

    def get_config(self) -> dict[str, Any]:
        level = self.level if isinstance(self.level, float) else list(self.level)
        return {"level": level, "clip": self.clip}


def from_name(name: str, level: Level | None = None, *, clip: bool = False) -> Corruption:
    """Return the corruption that the command line calls `name`.

    Args:
        name: one of `CORRUPTIONS`.
        level: its level; None takes the class's default.
        clip: whether to clip the corrupted values to [0, 1].

    Raises:
        TypeError: if the level is not a number or a pair of numbers.
        ValueError: if the name is unknown or the level is out of range.
    """
    return CORRUPTIONS.choose(name).of_level(level, clip=clip)
