"""How much an evaluation measures."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from dvae_tf import corruptions, counts, randomness

# Levels of noise where none are given, in units of the training level; and that level where the
# training noise has none.
_FACTORS, _BASE_LEVEL = (0, 0.5, 1, 2, 3, 5), 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Args:
        num_importance_samples: samples for log p(x) of each example.
        noise_levels: levels of every noise kind; None takes 0, 1/2, 1, 2, 3 and 5 times the
            training level, up to 1.
        limit: the first N test examples; None takes all.
        num_denoised: at most so many test examples for denoising and robustness.
        num_annealed: at most so many test examples, evenly spaced, for annealed importance
            sampling; 0 for none.
        num_probed: at most so many training examples for the probes.
        seed: of every draw.
        batch_size: examples that the model takes at once. Bounds and posterior averages draw anew
            for each batch, so that their numbers depend on it.

    Raises:
        ValueError: if a number is out of range.
    """

    num_importance_samples: int = 5000
    noise_levels: tuple[float, ...] | None = None
    limit: int | None = None
    num_denoised: int = 500
    num_annealed: int = 20
    num_probed: int = 10_000
    seed: int = 0
    batch_size: int = 500

    def __post_init__(self):
        for name, least in (
            ("num_importance_samples", 1),
            ("limit", 1),
            ("num_denoised", 1),
            ("num_annealed", 0),
            ("num_probed", 1),
            ("batch_size", 1),
        ):
            value = getattr(self, name)
            if value is not None:
                counts.check(name, value, least)
        if self.noise_levels == ():
            raise ValueError("`noise_levels` must be one level or more. Received: none. Add them.")
        for level in self.noise_levels or ():
            corruptions.Gaussian(level)  # refuses a level out of range
        randomness.as_seed(self.seed)

    def levels(self, corruption: corruptions.Corruption) -> tuple[float, ...]:
        """Return the levels of every noise kind, in order, for a model trained on `corruption`."""
        if self.noise_levels is not None:
            return tuple(sorted(set(self.noise_levels)))
        base = corruptions.highest(corruption.level) or _BASE_LEVEL
        return tuple(sorted({round(min(base * factor, 1.0), 6) for factor in _FACTORS}))

    def described(self) -> dict[str, Any]:
        """Return the settings for the report; a batch size is said where it is not the usual one."""
        values = dataclasses.asdict(self)
        if self.batch_size == Settings.batch_size:
            del values["batch_size"]
        return values
