"""Keras on another backend: commands choose TensorFlow, the library says what it needs."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


def run(*words, **variables):
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_library_says_in_one_line_what_it_needs(backend):
    done = run("-c", "import dvae_tf", KERAS_BACKEND=backend)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: dvae_tf needs Keras on TensorFlow. Received: Keras on {backend}"
    )
    assert last.endswith("Set KERAS_BACKEND=tensorflow before Keras is imported.")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("train.py",), ("-m", "dvae_tf.export")],
)
def test_commands_run_on_tensorflow_whatever_is_configured(words, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}', encoding="utf-8")
    done = run(*words, "--help", KERAS_BACKEND="torch", KERAS_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--help" in done.stdout
