"""The base of the corruption processes, and their registry."""

from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from dvae_tf import randomness
from dvae_tf.kinds.image import pixels
from dvae_tf.registry import Registry

Level = float | tuple[float, float]

CORRUPTIONS: Registry[type["Corruption"]] = Registry("noise", "dvae_tf.corruptions")


def _check_level(level, meaning: str, is_fraction: bool) -> Level:
    """Return `level` as a float or a pair of floats, or say what is wrong with it."""
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
    """Return a level, or the higher end of a range of levels."""
    return max(level) if isinstance(level, (tuple, list)) else level


class Corruption:
    """Base of the corruption processes.

    A subclass has a `name` for the command line, says what it does (`effect`) and what its level
    means (`level_means`, and whether it is a fraction), and which level train.py takes by default.

    Args:
        level: strength of the corruption in [0, 1], or a pair (low, high) of which each example
            draws its own level, uniformly. What it measures is said by each subclass.
        clip: whether to clip the corrupted pixels to [0, 1].

    Raises:
        TypeError: if the level is not a number or a pair of numbers.
        ValueError: if a level lies outside [0, 1] or a pair is not in order.
    """

    name: ClassVar[str]
    effect: ClassVar[str] = ""
    level_means: ClassVar[str]
    level_is_fraction: ClassVar[bool] = False
    default_level: ClassVar[float] = 0.1

    def __init__(self, level: Level = 0.1, *, clip: bool = False):
        self.level = _check_level(level, self.level_means, self.level_is_fraction)
        self.clip = bool(clip)

    @classmethod
    def of_level(cls, level: Level | None, *, clip: bool) -> "Corruption":
        """Return a corruption of this level; None takes the default of the class."""
        return cls(clip=clip) if level is None else cls(level, clip=clip)

    def __call__(self, x, *, seed) -> tf.Tensor:
        """Draw x~ ~ p(x~|x).

        Args:
            x: [batch, ...], pixels in [0, 1], or a nest of such tensors, each of which draws noise
                of its own. Noise is drawn in float32.
            seed: an integer, or an int32 tensor of shape [2].

        Returns:
            a float32 tensor of the shape of `x`: a pure function of `x` and `seed`.
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
        """Return x~ for a level that broadcasts against `x`; what subclasses define."""
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
            in_units: from a standard deviation to words, in units people think in.
        """
        levels = (self.level,) if isinstance(self.level, float) else self.level
        return f"{self.name}, level={' to '.join(f'{level:g}' for level in levels)}"

    def get_config(self) -> dict[str, Any]:
        level = self.level if isinstance(self.level, float) else list(self.level)
        return {"level": level, "clip": self.clip}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Corruption":
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(repr(self))


def from_name(name: str, level: Level | None = None, *, clip: bool = False) -> Corruption:
    """Return the corruption that the command line calls `name`.

    Args:
        name: one of `CORRUPTIONS`.
        level: its level; None takes the class's default.
        clip: whether to clip the corrupted pixels to [0, 1].

    Raises:
        ValueError: if the name is unknown or the level invalid.
    """
    return CORRUPTIONS.choose(name).of_level(level, clip=clip)
