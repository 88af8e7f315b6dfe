"""Corruptions whose level is the standard deviation of a noise."""

from dvae_tf.corruptions.corruption import Corruption
from dvae_tf.kinds.image import pixels


class StandardDeviation(Corruption):
    """A corruption whose level is the standard deviation of a noise."""

    def describe(self) -> str:
        levels = (self.level,) if isinstance(self.level, float) else self.level
        return f"{self.name}, " + " to ".join(
            f"sigma={level:.3g} ({pixels.in_8_bits(level)})" for level in levels
        )
