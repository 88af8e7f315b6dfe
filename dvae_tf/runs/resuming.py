"""Going on with a run that was stopped, as if it had not been."""

import csv
import dataclasses
from typing import NamedTuple

import keras

from dvae_tf.model import DVAE
from dvae_tf.runs import callbacks, checkpoints, history
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        checkpoint: what its model was restored to; None for a new run, and where nothing is left
            to train.
        is_trained: whether only figures or export may be missing.
    """

    checkpoint: checkpoints.Checkpoint | None = None
    is_trained: bool = False

    @property
    def epoch(self) -> int:
        """Epochs behind it."""
        return 0 if self.checkpoint is None else self.checkpoint.state["epoch"]

    @property
    def step_in_epoch(self) -> int:
        """Steps of the next epoch behind it."""
        return 0 if self.checkpoint is None else self.checkpoint.state["step_in_epoch"]

    @property
    def history(self) -> list[dict[str, str]]:
        """Rows of the epochs behind it."""
        return [] if self.checkpoint is None else history.rows(self.checkpoint.state["history"])


def read_configuration(run_dir: str, data_dir: str | None = None) -> Configuration:
    """Return the configuration that a run is resumed with: its own.

    Args:
        run_dir: directory of the run.
        data_dir: directory of TensorFlow Datasets, where it is another one by now.

    Raises:
        ConfigurationError: if it is no run directory.
    """
    saved, _ = RunDirectory(run_dir).read_config()
    return dataclasses.replace(saved, resume=run_dir, data_dir=data_dir or saved.data_dir)


def restore(
    directory: RunDirectory, config: Configuration, model: DVAE, *, is_chief: bool
) -> Progress:
    """Set the model, and if chief the history, to the newest checkpoint of a run that was stopped.

    Raises:
        ConfigurationError: if the run has ended, or its files are damaged.
    """
    if is_chief:
        directory.sweep()
    try:
        newest = directory.load_checkpoint()
        if newest is not None:
            checkpoints.restore(model, callbacks.split_arrays(newest)[0])
    except checkpoints.CheckpointError as error:
        raise ConfigurationError(
            f"{directory} must hold a checkpoint of this run. Received: {error}. Start a new run."
        ) from error
    try:
        text = directory.read_history_text() if newest is None else newest.state["history"]
        rows = history.rows(text)
        is_trained = directory.model_path.exists() and history.has_ended(
            rows, config.epochs, config.patience
        )
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"{directory.history_path} must be the history of a run. Received: {error!r}. "
            "Start a new run."
        ) from error
    if newest is None and is_trained and directory.is_exported(1):
        raise ConfigurationError(
            f"`resume` must name a run that was stopped. Received: {directory}, which has ended after "
            f"{len(rows)} of {config.epochs} epochs. Start a new run."
        )
    if is_chief and newest is not None:
        directory.write_history_text(text)
    elif is_chief and not is_trained:  # stopped before its first checkpoint
        directory.write_history_text("")
    return Progress(newest, is_trained)


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' own, which remembers the epochs before a run was stopped.

    Args:
        patience: validations without a better bound.
        past: rows of the history before.
    """

    def __init__(self, patience: int, past: list[dict[str, str]]):
        super().__init__("val_bound", mode="max", patience=patience)
        self._past = history.validation_bounds(past)
        self._has_begun = False

    def on_train_begin(self, logs=None):
        if self._has_begun:  # the rest of an epoch was a `fit` of its own
            return
        self._has_begun = True
        super().on_train_begin(logs)
        for epoch, bound in enumerate(self._past):
            self.on_epoch_end(epoch, {"val_bound": bound})

    def on_epoch_end(self, epoch, logs=None):
        if "val_bound" in logs:  # not every epoch ends with a validation
            super().on_epoch_end(epoch, logs)
