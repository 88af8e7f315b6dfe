"""A sequence of corruptions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from dvae_tf import randomness
from dvae_tf.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="dvae_tf")
class Chain(Corruption):
    """Applies several corruptions one after the other, each with its own seed.

    Args:
        corruptions: the corruptions, first to last; at least one.
        clip: whether to clip the result to [0, 1].

    Raises:
        TypeError: if the list is empty or holds anything but corruptions.
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

    def describe(self, in_units: Callable[[float], str] | None = None) -> str:
        return " then ".join(corruption.describe(in_units) for corruption in self.corruptions)

    def get_config(self) -> dict[str, Any]:
        links = [keras.saving.serialize_keras_object(c) for c in self.corruptions]
        return {"corruptions": links, "clip": self.clip}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Chain":
        config = dict(config)
        links = [keras.saving.deserialize_keras_object(c) for c in config.pop("corruptions")]
        return cls(links, **config)
