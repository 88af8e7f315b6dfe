"""Runs that are resumed within an epoch; tests/test_train.py has the command."""

import shutil

import keras
import pytest
from conftest import ROOT

from dvae_tf.runs import resuming, training

STOPPED = ROOT / "tests" / "fixtures" / "stopped-0.1"  # after step 44 of 88 of its second epoch


@pytest.mark.slow
def test_the_rest_of_an_epoch_is_saved_at_its_end_and_may_be_the_last(tmp_path):
    run_dir = tmp_path / "stopped"
    shutil.copytree(STOPPED, run_dir)
    (first,) = (run_dir / "checkpoints").iterdir()
    before, epochs = first.read_bytes(), []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            epochs.append(epoch)
            self.model.stop_training = True

    run = training.prepare(resuming.read_configuration(str(run_dir)))
    training.train(run, extra=[Stop()], verbose=0)
    assert epochs == [1]
    assert first.read_bytes() == before
    names = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert names == {first.name, "step-000000000176.ckpt"}
