"""Resuming a stopped run, with the same result as if it had never stopped."""

import csv
import dataclasses
from typing import NamedTuple

import keras

from dvae_tf.model import DVAE
from dvae_tf.runs import callbacks, checkpoints, history
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.directory import RunDirectory


class Progress(NamedTuple):
    """The progress of a run.

    Attributes:
        checkpoint: the checkpoint that the model was restored to; None if there was none.
        is_trained: whether training is complete, so that at most figures and export are missing.
    """

    checkpoint: checkpoints.Checkpoint | None = None
    is_trained: bool = False

    @property
    def is_new(self) -> bool:
        """Whether nothing was trained yet."""
        return self.checkpoint is None and not self.is_trained

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return 0 if self.checkpoint is None else self.checkpoint.state["epoch"]

    @property
    def step_in_epoch(self) -> int:
        """Number of steps done in the epoch after these."""
        return 0 if self.checkpoint is None else self.checkpoint.state["step_in_epoch"]

    @property
    def history(self) -> list[dict[str, str]]:
        """Rows of history.csv for the complete epochs."""
        return [] if self.checkpoint is None else history.rows(self.checkpoint.state["history"])


def read_configuration(run_dir: str, data_dir: str | None = None) -> Configuration:
    """Return the configuration of a run, set up to resume it.

    Args:
        run_dir: directory of the run.
        data_dir: directory of TensorFlow Datasets, if it has changed; None keeps the run's own.

    Raises:
        ConfigurationError: if `run_dir` is not a run directory.
    """
    saved, _ = RunDirectory(run_dir).read_config()
    return dataclasses.replace(saved, resume=run_dir, data_dir=data_dir or saved.data_dir)


def restore(
    directory: RunDirectory, config: Configuration, model: DVAE, *, is_chief: bool
) -> Progress:
    """Restore the model to the newest checkpoint of a stopped run; the chief also restores history.csv.

    Raises:
        ConfigurationError: if the run is complete, or its files are damaged.
    """
    try:
        newest = directory.load_checkpoint()
        if newest is not None:
            newest = callbacks.checked(newest)
            checkpoints.restore(model, callbacks.split_arrays(newest)[0])
    except checkpoints.CheckpointError as error:
        raise ConfigurationError(
            f"{directory} must hold a checkpoint of this run. Received: {error}. Start a new run."
        ) from error
    try:
        text = directory.read_history_text() if newest is None else newest.state["history"]
        rows = history.rows(text)
        if rows:
            history.columns(rows)
        is_trained = directory.model_path.exists() and history.has_ended(
            rows, config.epochs, config.patience
        )
    except (LookupError, ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"{directory.history_path} must be the history of a run. Received: {error!r}. "
            "Start a new run."
        ) from error
    if newest is None and is_trained and directory.is_exported(1):
        raise ConfigurationError(
            f"`resume` must name an unfinished run. Received: {directory}, which has ended after "
            f"{len(rows)} of {config.epochs} epochs. Start a new run from its weights with "
            f"`init_from={str(directory)!r}`."
        )
    if is_chief and newest is not None:
        directory.write_history_text(text)
    elif is_chief and not is_trained:  # stopped before its first checkpoint
        directory.write_history_text("")
    return Progress(newest, is_trained)


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' early stopping, which also counts the epochs before a run was resumed.

    Args:
        patience: validations without a better bound, after which training ends.
        past: rows of history.csv from earlier epochs.
    """

    def __init__(self, patience: int, past: list[dict[str, str]]):
        super().__init__("val_bound", mode="max", patience=patience)
        self._past = history.validation_bounds(past)
        self._has_begun = False

    def on_train_begin(self, logs=None):
        if self._has_begun:  # a resumed run may call `fit` twice
            return
        self._has_begun = True
        super().on_train_begin(logs)
        for epoch, bound in enumerate(self._past):
            self.on_epoch_end(epoch, {"val_bound": bound})

    def on_epoch_end(self, epoch, logs=None):
        if "val_bound" in logs:  # not every epoch ends with a validation
            super().on_epoch_end(epoch, logs)
