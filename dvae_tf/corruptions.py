"""Corruption processes p(x~|x): a clean batch and a seed in, a corrupted batch out.

A corruption is a stateless, serialisable callable,

    noisy = Gaussian(0.1)(x, seed=seed)       # x: [batch, ...], pixels in [0, 1]

All levels live on the [0, 1] scale, and level 0 is the identity for every kind. A level may be a
number or a pair (low, high), from which each example draws its own level uniformly: blind
denoising. Every channel value is corrupted on its own, as `skimage.util.random_noise` does, but by
`BlockOcclusion`, which hides all channels of a pixel.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dvae_tf import randomness

Level = float | tuple[float, float]

register = keras.saving.register_keras_serializable(package="dvae_tf")


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
            elif not is_fraction and 1.0 < float(value) <= 255.0:
                remedy = (
                    " Levels are on the [0, 1] pixel scale: for "
                    f"{float(value):g} on the 0-255 scale give {float(value) / 255:.3g}."
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

    Args:
        level: strength of the corruption in [0, 1], or a pair (low, high) of which each example
            draws its own level, uniformly. What it measures is said by each subclass.
        clip: whether to clip the corrupted pixels to [0, 1].

    Raises:
        TypeError: if the level is not a number or a pair of numbers.
        ValueError: if a level lies outside [0, 1] or a pair is not in order.
    """

    name: ClassVar[str]
    level_means: ClassVar[str]
    level_is_fraction: ClassVar[bool] = False

    def __init__(self, level: Level = 0.1, *, clip: bool = False):
        self.level = _check_level(level, self.level_means, self.level_is_fraction)
        self.clip = bool(clip)

    def __call__(self, x, *, seed) -> tf.Tensor:
        """Draw x~ ~ p(x~|x).

        Args:
            x: [batch, ...], pixels in [0, 1]. Noise is drawn in float32.
            seed: an integer, or an int32 tensor of shape [2].

        Returns:
            a float32 tensor of the shape of `x`: a pure function of `x` and `seed`.
        """
        x = tf.cast(x, tf.float32)
        level_seed, noise_seed = randomness.split(randomness.as_seed(seed))
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

    def describe(self) -> str:
        """Return the process in one phrase, with its level in the units people think in."""
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


@register
class Identity(Corruption):
    """No corruption: x~ = x. With it a denoising VAE is a VAE."""

    name = "none"
    level_means = "ignored, 0 (nothing is corrupted)"

    def __init__(self):
        super().__init__(0.0)

    def __call__(self, x, *, seed=None) -> tf.Tensor:
        return tf.cast(x, tf.float32)

    def describe(self) -> str:
        return "none"

    def get_config(self) -> dict[str, Any]:
        return {}


class _Sigma(Corruption):
    """A corruption whose level is the standard deviation of a noise."""

    def describe(self) -> str:
        levels = (self.level,) if isinstance(self.level, float) else self.level
        return f"{self.name}, " + " to ".join(
            f"sigma={level:.3g} ({level * 255:.3g}/255)" for level in levels
        )


@register
class Gaussian(_Sigma):
    """Additive white noise: x~ = x + level * eps, eps ~ N(0, 1)."""

    name = "gaussian"
    level_means = "standard deviation (on the [0, 1] pixel scale)"

    def corrupt(self, x, level, seed):
        return x + level * randomness.normal(tf.shape(x), seed)


@register
class Speckle(_Sigma):
    """Multiplicative noise: x~ = x * (1 + level * eps), eps ~ N(0, 1)."""

    name = "speckle"
    level_means = "standard deviation (of the noise on a pixel of value 1)"

    def corrupt(self, x, level, seed):
        return x * (1.0 + level * randomness.normal(tf.shape(x), seed))


@register
class Poisson(_Sigma):
    """Photon noise: x~ = level**2 * n, n ~ Poisson(x / level**2).

    A pixel of value x has mean x and standard deviation level * sqrt(x): a white pixel counts
    1 / level**2 photons. Negative pixels are taken as 0.
    """

    name = "poisson"
    level_means = "standard deviation (of the noise on a pixel of value 1)"

    def corrupt(self, x, level, seed):
        # Below this level float32 counts would lose their unit; the noise is then invisible.
        is_zero = level < 1e-3
        photon = tf.square(tf.where(is_zero, 1.0, level))
        # At a rate that is not finite the sampler's rejection loop would not end.
        is_finite = tf.math.is_finite(x)
        rate = tf.where(is_finite, tf.maximum(x, 0.0), 0.0) / photon
        counts = tfp.distributions.Poisson(rate).sample(seed=seed)
        # At rate 0 the sampler's rejection loop may return anything: the count is 0.
        noisy = photon * tf.where(rate > 0.0, counts, 0.0)
        return tf.where(is_zero | ~is_finite, x, noisy)


@register
class SaltPepper(Corruption):
    """Impulse noise: a pixel is hit with probability `level`, then 0 or 1 with equal odds."""

    name = "salt_pepper"
    level_means = "fraction of pixels hit (salt and pepper equally likely)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        u = randomness.uniform(tf.shape(x), seed)
        return tf.where(u < 0.5 * level, 0.0, tf.where(u < level, 1.0, x))


@register
class AuthorsSaltPepper(Corruption):
    """Impulse noise as the code of Im et al. (2017) has it, for reproduction only.

    A pixel is hit with probability `level`; a hit pixel is 1 with probability `level` again, not
    1/2, and 0 otherwise. At small levels this is nearly masking. Source: jiwoongim/DVAE, utils.py.
    """

    name = "authors_salt_pepper"
    level_means = "fraction of pixels hit (salt with that same probability, else pepper)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        u = randomness.uniform(tf.shape(x), seed)
        return tf.where(u < level * level, 1.0, tf.where(u < level, 0.0, x))


@register
class Masking(Corruption):
    """Masking noise: a pixel is set to 0 with probability `level`."""

    name = "masking"
    level_means = "fraction of pixels hit (set to 0)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        return tf.where(randomness.uniform(tf.shape(x), seed) < level, 0.0, x)


@register
class BlockOcclusion(Corruption):
    """A block of the image's own aspect ratio, at a uniformly drawn place, is set to 0.

    `level` is the fraction of the image's area that the block covers, up to rounding of its sides
    to whole pixels. Images are [batch, height, width, channels].
    """

    name = "block"
    level_means = "fraction of the area occluded (by one block)"
    level_is_fraction = True

    def corrupt(self, x, level, seed):
        batch, height, width = tf.unstack(tf.shape(x)[:3])
        position = randomness.uniform(tf.stack([2, batch, 1, 1, 1]), seed)

        def covered(size, position, axis_shape):
            size_f = tf.cast(size, tf.float32)
            side = tf.round(tf.sqrt(level) * size_f)
            start = tf.floor(position * (size_f - side + 1.0))
            pixel = tf.reshape(tf.range(size_f), axis_shape)
            return (pixel >= start) & (pixel < start + side)

        rows = covered(height, position[0], [1, -1, 1, 1])
        columns = covered(width, position[1], [1, 1, -1, 1])
        return tf.where(rows & columns, 0.0, x)


@register
class Chain(Corruption):
    """Corruptions applied one after the other, each with a seed of its own.

    Args:
        corruptions: the corruptions, first to last; at least one.
        clip: whether to clip the result to [0, 1].
    """

    name = "chain"
    level_means = "set by each link"

    def __init__(self, corruptions: Sequence[Corruption], *, clip: bool = False):
        super().__init__(0.0, clip=clip)
        corruptions = list(corruptions)
        if not corruptions or not all(isinstance(c, Corruption) for c in corruptions):
            raise TypeError(
                "`corruptions` must be a non-empty list of corruptions, for example "
                f"[Gaussian(0.1), Masking(0.2)]. Received: corruptions={corruptions!r}."
            )
        self.corruptions = corruptions

    def corrupt(self, x, level, seed):
        for index, corruption in enumerate(self.corruptions):
            x = corruption(x, seed=randomness.fold_in(seed, index))
        return x

    def describe(self) -> str:
        return " then ".join(corruption.describe() for corruption in self.corruptions)

    def get_config(self) -> dict[str, Any]:
        links = [keras.saving.serialize_keras_object(c) for c in self.corruptions]
        return {"corruptions": links, "clip": self.clip}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Chain":
        config = dict(config)
        links = [keras.saving.deserialize_keras_object(c) for c in config.pop("corruptions")]
        return cls(links, **config)


CORRUPTIONS: dict[str, type[Corruption]] = {
    cls.name: cls
    for cls in (
        Identity,
        Gaussian,
        SaltPepper,
        Masking,
        Speckle,
        Poisson,
        BlockOcclusion,
        AuthorsSaltPepper,
    )
}


def from_name(name: str, level: Level | None = None, *, clip: bool = False) -> Corruption:
    """Return the corruption that the command line calls `name`.

    Args:
        name: one of `CORRUPTIONS`.
        level: its level; None takes the class's default.
        clip: whether to clip the corrupted pixels to [0, 1].

    Raises:
        ValueError: if the name is unknown or the level invalid.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"`noise` must be one of {', '.join(CORRUPTIONS)}. Received: {name!r}.")
    if name == Identity.name:
        return Identity()
    cls = CORRUPTIONS[name]
    return cls(clip=clip) if level is None else cls(level, clip=clip)
