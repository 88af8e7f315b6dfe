import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from benchmarks.local_cluster import environments
from dvae_tf import DVAE, corruptions, networks, randomness
from dvae_tf.runs import workers

# One step of gradient descent on one global batch, in each of two processes.
WORKER = """
import sys
import numpy as np
from dvae_tf.runs import workers
strategy = workers.strategy("auto")
sys.path.insert(0, "tests")
from test_workers import fit
with strategy.scope():
    model = fit(np.load(sys.argv[1]))
np.savez(sys.argv[2], *model.get_weights())
print("chief" if workers.is_chief(strategy) else "other")
"""


def make_model():
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.mlp((3, 3, 1), 2, hidden=(5,))
    return DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.2), seed=3)


def fit(images):
    model = make_model()
    model.compile(keras.optimizers.SGD(1.0))
    data = tf.data.Dataset.from_tensor_slices(images).batch(len(images))
    history = model.fit(data, validation_data=data, epochs=1, verbose=0).history
    assert all(np.isfinite(values[0]) for values in history.values())
    return model


def start(environment, *words):
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    """Return what every process printed."""
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [output for output, _ in outputs]


@pytest.mark.slow
def test_two_processes_take_the_mean_gradient_of_the_whole_batch(tmp_path, rng):
    images = rng.random((8, 3, 3, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    paths = [tmp_path / f"{index}.npz" for index in range(2)]
    outputs = finish(
        [
            start(environment, "-c", WORKER, tmp_path / "images.npy", path)
            for environment, path in zip(environments(2), paths, strict=True)
        ]
    )
    assert [output.split()[-1] for output in outputs] == ["chief", "other"]
    with np.load(paths[0]) as first, np.load(paths[1]) as second:
        found = [first[name] for name in first.files]
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])

    # The same by hand, in this process: each half with the seed of its replica.
    model = make_model()
    before = [np.array(v) for v in model.trainable_variables]
    gradients = []
    for replica in range(2):
        seed = randomness.fold_in(randomness.as_seed(3), 0, 0, replica)
        with tf.GradientTape() as tape:
            terms = model.bound_terms(tf.constant(images[4 * replica :][:4]), seed=seed)
            loss = -tf.reduce_mean(terms.objective)
        gradients.append(tape.gradient(loss, model.trainable_variables))
    weights = [weight for weight in found if weight.shape != ()]
    for start_, end, *parts in zip(before, weights, *gradients, strict=True):
        np.testing.assert_allclose(
            start_ - end, np.mean([part.numpy() for part in parts], axis=0), rtol=1e-4, atol=1e-5
        )


RUN = shlex.split("--limit 200 --epochs 40 --hidden 8 --batch-size 20 --strategy multiworker")


@pytest.mark.slow
def test_a_worker_that_is_killed_resumes(tmp_path):
    def run(*words):
        return [start(e, "train.py", *words) for e in environments(2)]

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(run(*RUN, "--run-dir", whole))
    pair = run(*RUN, "--run-dir", stopped, "--checkpoint-seconds", "0")
    while (
        not (stopped / "history.csv").exists()
        or len((stopped / "history.csv").read_text(encoding="utf-8").splitlines()) < 5
    ):
        assert pair[0].poll() is None, pair[0].communicate()[1][-2000:]
        time.sleep(0.05)
    pair[1].send_signal(signal.SIGKILL)
    for process in pair:  # the other one notices
        process.communicate(timeout=120)
    assert all(process.returncode for process in pair)
    assert not (stopped / "export").exists()
    finish(run("--resume", stopped))
    assert (stopped / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    assert (stopped / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG must be JSON"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be JSON"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "IndexError"),
        ("", "`strategy='multiworker'` must find the workers in TF_CONFIG"),
    ],
)
def test_refuses_configurations(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(workers.WorkersError, match=message):
        workers.strategy("multiworker")


def test_none_and_one_device(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("none", "auto"):
        assert workers.strategy(name) is tf.distribute.get_strategy()
    mirrored = workers.strategy("mirrored")
    assert mirrored.num_replicas_in_sync == 1
    assert workers.is_chief(mirrored)
