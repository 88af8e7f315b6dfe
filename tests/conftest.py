"""What all tests share: quiet TensorFlow, the seed of each test, the data of record."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import numpy as np
import pytest

# The same inputs in every run; `--hypothesis-profile=long` tries more of them, and others each time.
hypothesis.settings.register_profile("short", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=700, deadline=None)
hypothesis.settings.load_profile("short")

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras' global dtype policy, as a user would, and restore it."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170204)


@pytest.fixture
def tfds_dir() -> Path:
    """The TFDS directory with MNIST and Frey Faces; the test is skipped where there is none."""
    candidates = [os.environ.get("TFDS_DATA_DIR"), ROOT.parent / "shared" / "tensorflow_datasets"]
    for candidate in filter(None, candidates):
        path = Path(candidate)
        frey = path / "downloads" / "manual" / "frey_rawface.mat"
        if (path / "mnist").is_dir() and frey.exists():
            return path
    pytest.skip("MNIST and Frey Faces are not here: set TFDS_DATA_DIR to a directory with both")
