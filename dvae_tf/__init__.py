"""Denoising variational auto-encoders (Im, Ahn, Memisevic, Bengio, AAAI 2017) on Keras 3."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvae_tf import bounds, corruptions, datasets, layers, networks
    from dvae_tf.model import DVAE

__version__ = "0.1.0"

__all__ = ["DVAE", "bounds", "corruptions", "datasets", "layers", "networks"]


def __getattr__(name: str):
    # Importing TensorFlow takes seconds: it waits until something needs it.
    if name == "DVAE":
        return importlib.import_module("dvae_tf.model").DVAE
    if name in __all__:
        return importlib.import_module(f"dvae_tf.{name}")
    raise AttributeError(f"module 'dvae_tf' has no attribute {name!r}")
