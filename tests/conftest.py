"""What all tests share: quiet TensorFlow, the seed of each test, the data of record."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import keras
import numpy as np
import pytest

# The same inputs in every run; `--hypothesis-profile=long` tries more of them, and others each time.
hypothesis.settings.register_profile("short", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=700, deadline=None)
hypothesis.settings.load_profile("short")

ROOT = Path(__file__).resolve().parents[1]


# Initial weights are drawn from global generators: the same ones whatever ran before, on any worker.
def pytest_fixture_setup():
    keras.utils.set_random_seed(20170204)


def pytest_runtest_call():
    keras.utils.set_random_seed(20170204)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170204)


@pytest.fixture
def images() -> np.ndarray:
    """Bars: half of each of 64 images of 8 x 6 pixels is bright."""
    x = np.zeros((64, 8, 6, 1), np.float32)
    x[::2, :4] = 1
    x[1::2, :, :3] = 1
    return x


@pytest.fixture(scope="session")
def data_directory() -> Path | None:
    """The TFDS directory with MNIST and Frey Faces, or None."""
    candidates = [os.environ.get("TFDS_DATA_DIR"), ROOT.parent / "shared" / "tensorflow_datasets"]
    for candidate in filter(None, candidates):
        path = Path(candidate)
        frey = path / "downloads" / "manual" / "frey_rawface.mat"
        if (path / "mnist").is_dir() and frey.exists():
            return path
    return None


@pytest.fixture
def tfds_dir(data_directory) -> Path:
    """The TFDS directory with MNIST and Frey Faces; the test is skipped where there is none."""
    if data_directory is None:
        pytest.skip("MNIST and Frey Faces are not here: set TFDS_DATA_DIR to a directory with both")
    return data_directory
