"""The step at which training diverged, found by repeating the steps before it."""

import keras
import numpy as np
import pytest

from dvae_tf import DVAE, networks
from dvae_tf.runs import diagnosis


def compiled(learning_rate) -> DVAE:
    keras.utils.set_random_seed(3)
    model = DVAE(*networks.mlp((2, 2, 1), 2, "gaussian", hidden=(4,)))
    model.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
    return model


@pytest.fixture
def batches(rng):
    return rng.random((3, 4, 2, 2, 1)).astype(np.float32)


def test_the_model_is_left_as_it_was_before_the_step_that_diverged(batches):
    """The first step of Adam moves every weight by the learning rate, whatever its gradient is."""
    model = compiled(1e30)
    found = diagnosis.find(model, batches, first_step=7)
    assert found["step"] == 8
    assert int(model.training_steps) == int(model.optimizer.iterations) == 1
    largest = max(np.abs(weight.numpy()).max() for weight in model.trainable_weights)
    assert found["largest_weight"][0] == largest == pytest.approx(1e30, rel=1e-3)
    assert found["largest_weight"][1] in {weight.path for weight in model.trainable_weights}
    assert found["input_finite"]
    assert "loss" in found["terms"]
    # Weights of 1e30 make a first layer of 1e30, and products of both overflow further on.
    assert found["layers"]
    assert "encoder/hidden_1" not in found["layers"]


def test_steps_that_stay_finite_are_taken(batches):
    model, other = compiled(0.01), compiled(0.01)
    assert diagnosis.find(model, batches, first_step=0) is None
    for x in batches:
        other.train_on_batch(x)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_batch_that_is_not_finite_is_told_from_a_model_that_diverges(batches):
    batches[1, 2, 0, 1] = np.nan
    found = diagnosis.find(compiled(0.01), batches, first_step=0)
    assert found["step"] == 1
    assert not found["input_finite"]
    assert found["largest_weight"][0] < 10
