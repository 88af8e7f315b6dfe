"""A second kind of data in one file: vectors of real numbers [B, D], read from .npy files.

Nothing else knows of it. tests/test_kinds.py trains, evaluates, resumes, saves and exports it.
"""

from pathlib import Path

import keras
import numpy as np

from dvae_tf.kinds import KINDS, Kind, Source
from dvae_tf.kinds.measure import Measure


@KINDS.register
@keras.saving.register_keras_serializable(package="tests")
class Vectors(Kind):
    """Vectors of real numbers."""

    name = "vectors"
    sources = "the path of an .npy file of vectors"
    noun = "vector"
    field = "vector"

    @classmethod
    def accepts(cls, input_shape):
        return isinstance(input_shape, tuple) and len(input_shape) == 2

    def load(self, name, *, data_dir, cache):
        array = np.load(name, allow_pickle=False).astype(np.float32)
        return Source(Path(name).stem, (array, None))

    def measures(self):
        return {"rmse": Measure(_rmse, "RMSE", is_error=True)}


def _rmse(clean, other):
    return np.sqrt(np.mean((clean - other) ** 2, axis=1))
