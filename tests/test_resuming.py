"""Runs that are resumed within an epoch; tests/test_train.py has the command."""

import shutil

import keras
import numpy as np
import pytest
from conftest import ROOT

from dvae_tf import DVAE, networks
from dvae_tf.runs import callbacks, checkpoints, outcome, resuming, training
from dvae_tf.runs.directory import RunDirectory

STOPPED = ROOT / "tests" / "fixtures" / "stopped-0.1"  # after step 44 of 88 of its second epoch


@pytest.fixture
def run_dir(tmp_path):
    return shutil.copytree(STOPPED, tmp_path / "stopped")


def resume(run_dir):
    return training.prepare(resuming.read_configuration(str(run_dir)))


@pytest.fixture
def fits(monkeypatch):
    """The arguments of each call of Keras' `fit`, which does not train here."""
    calls = []
    monkeypatch.setattr(DVAE, "fit", lambda model, x, **given: calls.append(given | {"x": x}))
    monkeypatch.setattr(RunDirectory, "load_model", lambda self: None)
    monkeypatch.setattr(outcome, "conclude", lambda *values: None)
    return calls


def test_the_rest_of_the_epoch_is_trained_on_and_then_the_epochs_after_it(run_dir, fits):
    run = resume(run_dir)
    training.train(run, verbose=0)
    names = ("initial_epoch", "epochs", "steps_per_epoch")
    assert [tuple(call[name] for name in names) for call in fits] == [(1, 2, 44), (2, 3, 88)]
    found = [x for call in fits for x in call["x"].take(call["steps_per_epoch"])]
    of_a_run_that_never_stopped = list(run.batches(0).take(3 * 88))
    np.testing.assert_array_equal(found, of_a_run_that_never_stopped[88 + 44 :])


def test_a_run_that_ends_with_the_rest_of_its_epoch_trains_no_more(run_dir, fits):
    run = resume(run_dir)
    run.model.stop_training = True  # as early stopping does, and a loss that is not finite
    training.train(run, verbose=0)
    assert [call["steps_per_epoch"] for call in fits] == [44]


def test_checkpoints_count_the_steps_before_the_stop_and_means_go_on(tmp_path):
    """Epoch 1, of five steps, was stopped after two."""
    model = DVAE(*networks.mlp((2, 2, 1), 2, hidden=(4,)))
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    arrays = {f"current-{name}": array for name, array in checkpoints.capture(model).items()}
    (variable,) = model.metrics_variables
    means = [np.arange(1, 1 + variable.shape[0]).tolist()]
    state = {"epoch": 1, "step_in_epoch": 2, "means": means, "best_bound": None, "history": ""}
    directory = RunDirectory(tmp_path)
    callback = callbacks.Checkpointing(
        directory, seconds=0, resumed=checkpoints.Checkpoint(7, arrays, state)
    )
    callback.set_model(model)
    callback.set_params({"steps": 3})
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    np.testing.assert_array_equal(variable, means[0])
    found = []
    for batch in range(3):
        callback.on_train_batch_end(batch)
        newest = directory.load_checkpoint()
        found.append((newest.step, newest.state["epoch"], newest.state["step_in_epoch"]))
    assert found == [(8, 1, 3), (9, 1, 4), (9, 1, 4)]  # the last step is the end of the epoch's
    callback.on_epoch_end(1, {})
    newest = directory.load_checkpoint()
    assert (newest.step, newest.state["epoch"], newest.state["step_in_epoch"]) == (10, 2, 0)
    variable.assign(np.zeros(variable.shape))  # as Keras does
    callback.on_epoch_begin(2)
    assert not np.any(variable)


@pytest.mark.slow
def test_the_rest_of_an_epoch_is_saved_at_its_end_and_may_be_the_last(run_dir):
    (first,) = (run_dir / "checkpoints").iterdir()
    before, epochs = first.read_bytes(), []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            epochs.append(epoch)
            self.model.stop_training = True

    training.train(resume(run_dir), extra=[Stop()], verbose=0)
    assert epochs == [1]
    assert first.read_bytes() == before
    names = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert names == {first.name, "step-000000000176.ckpt"}
