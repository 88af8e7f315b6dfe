"""Model files and run directories of version 0.1.0 load, evaluate, export and resume as before.

Only names under contract are used, so that the test outlives moves of modules. fixtures/README.md
says how the files were made.
"""

import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import dvae_tf.export
import evaluate
import train

FIXTURES = ROOT / "tests" / "fixtures"
EVALUATE = "--num-importance-samples 50 --limit 20 --num-annealed 2 --noise-levels 0.2"
# In a process that imports nothing but the package: that must register the saved classes.
LOAD_AND_CALL = """
import sys

import keras
import numpy as np

import dvae_tf

model = keras.models.load_model(sys.argv[1])
given = np.load(sys.argv[2])
clean, noisy = given["clean"], given["noisy"]
denoised = model.denoise(noisy, num_samples=4, seed=1)
np.savez(
    sys.argv[3],
    predicted=model.predict(noisy, verbose=0),
    denoised_mean=denoised.mean,
    denoised_stddev=denoised.stddev,
    elbo=model.elbo(clean, num_samples=2, seed=1),
    log_likelihood=model.log_likelihood(clean, num_samples=20, seed=1),
    samples=model.sample(4, seed=1),
)
"""


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected-0.1.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A copy of the run, evaluated and exported by the code of today."""
    run_dir = tmp_path_factory.mktemp("old") / "run-0.1"
    shutil.copytree(FIXTURES / "run-0.1", run_dir)
    assert evaluate.main([str(run_dir), *EVALUATE.split()]) == 0
    assert dvae_tf.export.main([str(run_dir), "--version", "1"]) == 0
    return run_dir


@pytest.mark.slow
def test_model_file_gives_the_same_numbers(expected, tmp_path):
    model_file, results = FIXTURES / "run-0.1" / "model.keras", tmp_path / "results.npz"
    words = [str(model_file), str(FIXTURES / "expected-0.1.npz"), str(results)]
    command = [sys.executable, "-c", LOAD_AND_CALL, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(results) as arrays:
        for name in ("predicted", "denoised_mean", "denoised_stddev", "samples"):
            np.testing.assert_allclose(arrays[name], expected[name], rtol=0, atol=1e-6)
        for name in ("elbo", "log_likelihood"):  # nats, sums over 64 pixels
            np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-6, atol=1e-4)


def numbers(value, path=""):
    """Yield (path, number) for every number in JSON values."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from numbers(inner, f"{path}.{key}")
    elif isinstance(value, int | float):
        yield path, value


@pytest.mark.slow
def test_evaluation_gives_the_same_numbers(old_run):
    before = json.loads((FIXTURES / "run-0.1/evaluation/metrics.json").read_text(encoding="utf-8"))
    after = json.loads((old_run / "evaluation/metrics.json").read_text(encoding="utf-8"))
    # The chains of annealing and of the attack magnify rounding, which differs by processor.
    for name in ("annealed", "adversarial"):
        before.pop(name)
        assert after.pop(name)
    # Version 0.1 left the choice between two samplers of Poisson noise to TensorFlow's Grappler.
    for metrics in (before, after):
        for table in ("denoising", "robustness"):
            metrics[table] = [row for row in metrics[table] if row["noise"] != "poisson"]
    assert len(dict(numbers(before))) > 300
    assert dict(numbers(after)) == pytest.approx(dict(numbers(before)), rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_export_gives_the_golden_outputs(old_run, expected):
    signatures = tf.saved_model.load(str(old_run / "export" / "1")).signatures
    names = {key.split("/")[1] for key in expected if key.startswith("golden/")}
    assert names == set(signatures) - {"denoise_png"}
    for name in names:
        given, wanted = {}, {}
        for key, array in expected.items():
            if key.startswith(f"golden/{name}/"):
                _, _, kind, tensor = key.split("/")
                (given if kind == "input" else wanted)[tensor] = array
        outputs = signatures[name](**{key: tf.constant(value) for key, value in given.items()})
        assert set(outputs) == set(wanted)
        for key, value in outputs.items():
            np.testing.assert_allclose(value.numpy(), wanted[key], rtol=1e-6, atol=1e-5)


def order_of_version_0_1(indices, seed, count):
    """Version 0.1 shuffled once, with the seed of the epoch: see benchmarks/NOTES.md."""
    return tf.random.experimental.index_shuffle(indices, seed, max_index=count - 1)


@pytest.mark.slow
def test_stopped_run_resumes_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr("dvae_tf.data.batches._shuffled", order_of_version_0_1)
    run_dir = tmp_path / "stopped"
    shutil.copytree(FIXTURES / "stopped-0.1", run_dir)
    assert train.main(["--resume", str(run_dir)]) == 0
    rows = [
        list(csv.DictReader((path / "history.csv").read_text(encoding="utf-8").splitlines()))
        for path in (run_dir, FIXTURES / "run-0.1")
    ]
    assert len(rows[0]) == len(rows[1]) == 3
    for resumed, unstopped in zip(*rows, strict=True):
        assert resumed.keys() == unstopped.keys()
        for key, text in resumed.items():
            assert float(text) == pytest.approx(float(unstopped[key]), rel=1e-5), key
    paths = (run_dir / "model.keras", FIXTURES / "run-0.1/model.keras")
    weights = [keras.models.load_model(path).get_weights() for path in paths]
    for resumed, unstopped in zip(*weights, strict=True):
        np.testing.assert_allclose(resumed, unstopped, rtol=0, atol=1e-4)
