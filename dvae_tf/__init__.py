"""Denoising variational auto-encoders (Im, Ahn, Memisevic, Bengio, AAAI 2017) on Keras 3."""

import os
import sys

if sys.argv[:1] == ["-m"]:
    # Under `python -m dvae_tf...` TensorFlow's start-up messages would bury ours. The variable only
    # works before the import. Programs that import this package choose for themselves.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dvae_tf import bounds, corruptions, datasets, layers, networks
from dvae_tf.model import DVAE

__version__ = "0.1.0"

__all__ = ["DVAE", "bounds", "corruptions", "datasets", "layers", "networks"]
