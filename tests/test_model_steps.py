"""Every call of `train_step` draws its own random numbers, whatever the optimizer counts."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from dvae_tf import DVAE, corruptions, networks, randomness
from dvae_tf.runs import checkpoints

SHAPE = (4, 3, 1)


def make_model(**kwargs) -> DVAE:
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.mlp(SHAPE, 2, hidden=(5,))
    return DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.3), seed=7, **kwargs)


def seed_of(step, purpose=0, replica=0) -> tf.Tensor:
    return randomness.fold_in(randomness.as_seed(7), purpose, step, replica)


def bounds_of_steps(model, x, steps) -> list[float]:
    """The bound of a batch under the noise of each step, by hand."""
    return [float(np.mean(model.bound_terms(x, seed=seed_of(step)).bound)) for step in steps]


ADAM = keras.optimizers.Adam
# Learning rates that change nothing. The scale of the last one stays infinite: every step is skipped.
OPTIMIZERS = {
    "plain": lambda: ADAM(1e-30),
    "accumulated": lambda: ADAM(1e-30, gradient_accumulation_steps=4),
    "skipped": lambda: keras.optimizers.LossScaleOptimizer(ADAM(1e-30), initial_scale=np.inf),
}


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        ("accumulated", {"jit_compile": False, "steps_per_execution": 3}),
        ("skipped", {"run_eagerly": True}),
        pytest.param("plain", {"run_eagerly": True}, marks=pytest.mark.slow),
        pytest.param(
            "skipped", {"jit_compile": False, "steps_per_execution": 3}, marks=pytest.mark.slow
        ),
        pytest.param(
            "accumulated", {"jit_compile": True, "steps_per_execution": 3}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_a_seed_for_every_step(name, compiled, rng):
    x = rng.random((6, *SHAPE)).astype(np.float32)
    model = make_model()
    model.compile(OPTIMIZERS[name](), **compiled)
    data = tf.data.Dataset.from_tensors(x).repeat(6)
    for steps in (range(6), range(6, 12)):
        history = model.fit(data, shuffle=False, verbose=0).history
        expected = np.mean(bounds_of_steps(model, x, steps))
        np.testing.assert_allclose(history["bound"][0], expected, rtol=1e-5)
    assert int(model.training_steps) == 12
    counted = {"plain": 12, "accumulated": 3, "skipped": 0}[name]
    assert int(model.optimizer.iterations) == counted


class Direct(corruptions.Gaussian):
    """Noise drawn with the seed as it is given, which is how latents are drawn, too."""

    def __call__(self, x, *, seed):
        return x + randomness.normal(tf.shape(x), seed)


def test_noise_and_latents_have_seeds_of_their_own(rng):
    x = rng.random((40, *SHAPE)).astype(np.float32)
    encoder, decoder = networks.mlp(SHAPE, 12, hidden=(5,))  # as many latents as values
    model, seen = DVAE(encoder, decoder, corruption=Direct()), {}

    def heard(name, network):
        def call(x, **arguments):
            seen[name] = x.numpy()
            return network(x, **arguments)

        return call

    model.encoder, model.decoder = heard("noisy", encoder), heard("latents", decoder)
    model.bound_terms(x, seed=seed_of(0))
    q = encoder(seen["noisy"])
    eps = (seen["latents"] - q.mean().numpy()) / q.stddev().numpy()
    pairs = (seen["noisy"] - x).ravel(), eps.ravel()
    # The correlation of n independent pairs has a standard error of 1 / sqrt(n).
    assert abs(np.corrcoef(*pairs)[0, 1]) < 4 / np.sqrt(x.size)


def test_binarisation_draws_anew_while_gradients_accumulate():
    x = np.full((50, *SHAPE), 0.5, np.float32)
    model, seen = make_model(binarize=True), []
    bound_terms = model.bound_terms

    def spy(clean, **arguments):
        seen.append(clean.numpy())
        return bound_terms(clean, **arguments)

    model.bound_terms = spy
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=3), run_eagerly=True)
    for step in range(4):
        model.train_on_batch(x)
        expected = randomness.uniform(x.shape, seed_of(step, purpose=5)).numpy() < x
        np.testing.assert_array_equal(seen[step], expected)


def test_the_number_of_the_step_outlives_files_and_compile(rng, tmp_path):
    x = rng.random((6, *SHAPE)).astype(np.float32)

    def make():
        model = make_model()
        optimizer = keras.optimizers.Adam(1e-30, gradient_accumulation_steps=4)
        model.compile(optimizer, run_eagerly=True)
        return model

    def bound_of_next(model):
        return model.train_on_batch(x, return_dict=True)["bound"]

    model = make()
    for _ in range(5):
        model.train_on_batch(x)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    captured = checkpoints.capture(model)
    (expected,) = bounds_of_steps(model, x, [5])
    restored, weights = make(), make()
    checkpoints.restore(restored, captured)
    weights.optimizer.build(weights.trainable_variables)
    weights.load_weights(tmp_path / "model.weights.h5")
    for other in (model, restored, weights, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(bound_of_next(other), expected, rtol=1e-6)
        # A new optimizer counts from 0, the model goes on.
        other.compile(keras.optimizers.SGD(1e-30), run_eagerly=True)
        assert int(other.optimizer.iterations) == 0
        np.testing.assert_allclose(
            bound_of_next(other), bounds_of_steps(other, x, [6])[0], rtol=1e-6
        )


def test_a_replica_contributes_its_share_of_the_gradient(rng, monkeypatch):
    """Gradients are summed over replicas; test_replicas_count_one_step_together has two of them."""
    x = rng.random((6, *SHAPE)).astype(np.float32)
    model = make_model()
    model.compile("sgd", run_eagerly=True)
    *_, alone = model.training_gradient(x)

    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(tf.distribute, "get_strategy", Four)
    *_, share = model.training_gradient(x)
    assert len(alone) == len(model.trainable_variables)
    for ours, theirs in zip(alone, share, strict=True):
        assert np.any(ours)
        np.testing.assert_allclose(theirs, ours / 4, rtol=1e-5)


def test_files_of_version_0_1_take_the_iterations():
    path = ROOT / "tests" / "fixtures" / "run-0.1" / "model.keras"
    model = keras.models.load_model(path)
    assert int(model.training_steps) == int(model.optimizer.iterations) == 264
    assert float(model.kl_weight) == 1.0
    # Their checkpoints lack the count, too.
    captured = checkpoints.capture(model)
    del captured[max(captured)]
    fresh = DVAE.from_config(model.get_config())
    fresh.compile_from_config(model.get_compile_config())
    checkpoints.restore(fresh, captured)
    assert int(fresh.training_steps) == 264
    for restored, weight in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(restored, weight)


# Two replicas on one machine, in a process of its own: devices are set before TensorFlow starts.
MIRRORED = """
import sys

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, "tests")
from test_model_steps import SHAPE, make_model, seed_of
from dvae_tf import DVAE, corruptions, layers

x = np.random.default_rng(0).random((8, *SHAPE)).astype(np.float32)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = make_model()
    image = keras.Input(SHAPE)
    h = keras.layers.BatchNormalization(momentum=0.9, name="norm")(keras.layers.Flatten()(image))
    h = keras.layers.Dense(4)(keras.layers.Dropout(0.5)(h))
    noisy = DVAE(keras.Model(image, layers.IndependentNormal(2)(h)), make_model().decoder)
    try:
        model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2))
    except ValueError as error:
        assert "must be None for several replicas" in str(error)
    else:
        raise AssertionError("accumulation in replicas")
    model.compile(keras.optimizers.Adam(1e-30))
    noisy.compile("sgd")
data = tf.data.Dataset.from_tensors(x).unbatch().batch(8).repeat(3)
history = model.fit(data, shuffle=False, verbose=0).history
assert int(model.training_steps) == 3
halves = [
    model.bound_terms(x[4 * replica :][:4], seed=seed_of(step, replica=replica)).bound
    for step in range(3)
    for replica in range(2)
]
np.testing.assert_allclose(history["bound"][0], np.mean(halves), rtol=1e-5)
noisy.fit(data.take(1), shuffle=False, verbose=0)
mean = noisy.encoder.get_layer("norm").moving_mean.numpy()
# Keras: each replica has averages of its own, and those of the first are read.
np.testing.assert_allclose(mean, 0.1 * x[:4].reshape(4, -1).mean(0), rtol=1e-5)
"""


@pytest.mark.slow
def test_replicas_count_one_step_together():
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
