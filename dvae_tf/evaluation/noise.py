"""The noise that an evaluation adds; it is the same for every model on one data set.

Draws depend only on the seed and on the position of an example.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, randomness
from dvae_tf.kinds import Kind
from dvae_tf.kinds.kind import Example

# Folded into the seed, to separate these draws from others.
_CORRUPTION = 0


class Noisy(NamedTuple):
    """All examples under one noise.

    Attributes:
        noise: name of the noise.
        level: level of the noise.
        corruption: the corruption that adds it.
        examples: the corrupted examples, [N, ...].
    """

    noise: str
    level: float
    corruption: corruptions.Corruption
    examples: Example

    @property
    def place(self) -> dict[str, str | float]:
        """Name and level of the noise, in the form of a row of metrics.json."""
        return {"noise": self.noise, "level": self.level}


def corrupted(corruption: corruptions.Corruption, examples: Example, seed: int) -> Example:
    """Corrupt all examples [N, ...] in one draw."""
    noisy = corruption(examples, seed=randomness.fold_in(randomness.as_seed(seed), _CORRUPTION))
    return tf.nest.map_structure(np.asarray, noisy)


def every_noise(
    kind: Kind, levels: tuple[float, ...], examples: Example, seed: int
) -> Iterator[Noisy]:
    """Yield the examples under each noise of their kind at each level."""
    for noise in kind.noises:
        for level in levels:
            corruption = corruptions.from_name(noise, level)
            yield Noisy(noise, level, corruption, corrupted(corruption, examples, seed))
