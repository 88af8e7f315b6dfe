"""The settings of an evaluation."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from dvae_tf import corruptions, counts, randomness

# Default noise levels in units of the training level, and the level that replaces a training level
# of 0.
_FACTORS, _BASE_LEVEL = (0, 0.5, 1, 2, 3, 5), 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of an evaluation.

    Args:
        num_importance_samples: samples for log p(x) of each example.
        noise_levels: levels at which every noise is tried; None takes 0, 1/2, 1, 2, 3 and 5 times
            the training level, up to 1.
        limit: number of test examples, the first ones; None takes all.
        num_denoised: most test examples for denoising and robustness.
        num_annealed: most test examples for annealed importance sampling, evenly spaced; 0 skips it.
        num_probed: most training examples for the probes.
        seed: seed of every draw.
        batch_size: examples in a batch. The numbers depend on it, because bounds and posterior
            averages draw anew for each batch.

    Raises:
        TypeError, ValueError: if a value is not a number or out of range.
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
            raise ValueError("`noise_levels` must be one level or more, but is empty. Add a level.")
        for level in self.noise_levels or ():
            corruptions.Gaussian(level)  # raises if the level is out of range
        randomness.as_seed(self.seed)

    def levels(self, corruption: corruptions.Corruption) -> tuple[float, ...]:
        """Return the noise levels to try, in order, for a model trained on `corruption`."""
        if self.noise_levels is not None:
            return tuple(sorted(set(self.noise_levels)))
        base = corruptions.highest(corruption.level) or _BASE_LEVEL
        return tuple(sorted({round(min(base * factor, 1.0), 6) for factor in _FACTORS}))

    def described(self) -> dict[str, Any]:
        """Return the settings by name, for the report; a default batch size is left out."""
        values = dataclasses.asdict(self)
        if self.batch_size == Settings.batch_size:
            del values["batch_size"]
        return values
