"""Denoising variational auto-encoders (Im, Ahn, Memisevic, Bengio, AAAI 2017) on Keras 3."""

from dvae_tf import bounds, corruptions, datasets, layers, networks
from dvae_tf.model import DVAE

__version__ = "0.1.0"

__all__ = ["DVAE", "bounds", "corruptions", "datasets", "layers", "networks"]
