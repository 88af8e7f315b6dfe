"""Corruptions whose level is a standard deviation."""

from collections.abc import Callable

from dvae_tf.corruptions.corruption import Corruption


class StandardDeviation(Corruption):
    """A corruption whose level is the standard deviation of its noise."""

    def describe(self, in_units: Callable[[float], str] | None = None) -> str:
        levels = (self.level,) if isinstance(self.level, float) else self.level
        return f"{self.name}, " + " to ".join(
            f"sigma={level:.3g}" + ("" if in_units is None else f" ({in_units(level)})")
            for level in levels
        )
