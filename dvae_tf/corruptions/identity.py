"""No corruption."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from dvae_tf.corruptions.corruption import CORRUPTIONS, Corruption, Level


@CORRUPTIONS.register
@keras.saving.register_keras_serializable(package="dvae_tf")
class Identity(Corruption):
    """No corruption: x~ = x. It turns a denoising VAE into a VAE."""

    name = "none"
    label = "None: the image as it is"
    effect = "corrupts nothing: the model is a VAE"
    level_means = "ignored, 0 (nothing is corrupted)"
    default_level = 0.0

    def __init__(self):
        super().__init__(0.0)

    @classmethod
    def of_level(cls, level: Level | None, *, clip: bool) -> "Identity":
        return cls()

    def __call__(self, x, *, seed=None):
        if isinstance(x, (tuple, dict)):
            return tf.nest.map_structure(lambda part: tf.cast(part, tf.float32), x)
        return tf.cast(x, tf.float32)

    def describe(self, in_units: Callable[[float], str] | None = None) -> str:
        return "none"

    def get_config(self) -> dict[str, Any]:
        return {}
