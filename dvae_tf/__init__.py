"""Denoising variational auto-encoders (Im, Ahn, Memisevic, Bengio, AAAI 2017) on Keras 3."""

import os
import sys

if sys.argv[:1] == ["-m"]:
    # Under `python -m dvae_tf...` TensorFlow's start-up messages would bury ours. Both variables only
    # work before the import. Programs that import this package choose for themselves.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says


def _check_backend() -> None:
    """Raise an ImportError in one line if Keras runs on another backend than TensorFlow."""
    remedy = "Set KERAS_BACKEND=tensorflow before Keras is imported."
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "torch", "openvino", "mlx"):
            raise
        raise ImportError(
            "dvae_tf needs Keras on TensorFlow. Received: Keras on "
            f"{os.environ.get('KERAS_BACKEND', error.name)}, without {error.name}. {remedy}"
        ) from None
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            f"dvae_tf needs Keras on TensorFlow. Received: Keras on {keras.config.backend()}. {remedy}"
        )


_check_backend()

from dvae_tf import bounds, corruptions, datasets, layers, networks
from dvae_tf.model import DVAE

__version__ = "0.1.0"

__all__ = ["DVAE", "bounds", "corruptions", "datasets", "layers", "networks"]
