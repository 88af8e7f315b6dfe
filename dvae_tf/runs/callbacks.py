"""Keras callbacks of this project; every stock callback works beside them."""

import math
import time
from typing import Any

import keras
import numpy as np

from dvae_tf import counts
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints, history
from dvae_tf.runs.directory import RunDirectory


class KLWarmUp(keras.callbacks.Callback):
    """Raises the weight of the KL term linearly from 0 to 1 over the first epochs.

    The logged `bound` and `elbo` stay those with weight 1; only `loss` feels the weight.

    Args:
        epochs: epoch e, counted from 0, has weight min(e / epochs, 1).

    Raises:
        ValueError: if `epochs` is not positive, or, when training begins, if the model's gradient is
            doubly reparameterised, which is unbiased for weight 1 only.
    """

    def __init__(self, epochs: int):
        super().__init__()
        counts.check("epochs", epochs)
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        if self.model.gradient == "doubly_reparameterized":
            raise ValueError(
                "KLWarmUp must go with gradient='reparameterized'. "
                f"Received: a model with gradient={self.model.gradient!r}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(min(epoch / self.epochs, 1.0))


class FiniteGuard(keras.callbacks.Callback):
    """Ends training at the end of the call of TensorFlow in which the loss is not finite.

    Attributes:
        epoch: that it ended in, counted from 0; None as long as all is finite.
    """

    def __init__(self):
        super().__init__()
        self.epoch: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self._current = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        self._check(sum(logs.values()))

    def _check(self, value) -> None:
        if self.epoch is None and not np.isfinite(value):
            self.epoch = self._current
            self.model.stop_training = True


class Recorder(keras.callbacks.Callback):
    """Holds what history.csv holds.

    Args:
        past: rows of the epochs before a run was stopped.
    """

    def __init__(self, past: list[dict[str, str]]):
        super().__init__()
        self._columns = history.columns(past) if past else {}

    @property
    def columns(self) -> history.Columns:
        """Columns by name; NaN in epochs without validation."""
        return self._columns

    def on_epoch_end(self, epoch, logs=None):
        for name in history.COLUMNS:
            value = epoch if name == "epoch" else logs.get(name, math.nan)
            self._columns.setdefault(name, []).append(float(value))


class Checkpointing(keras.callbacks.Callback):
    """Keeps a run such that it goes on after any stop as if there had been none.

    It writes checkpoints (see `checkpoints`) at ends of epochs and of calls of several steps, holds
    the best weights by validation bound, and writes them as `model.keras`. Weights that are not finite
    are never written.

    Args:
        directory: of the run. `checkpoints/` and `model.keras` are written into it; checkpoints hold
            its `history.csv`.
        seconds: least time between two checkpoints; 0 writes all.
        resumed: the checkpoint that the model was restored to, None for a new run.

    Raises:
        OSError: if something cannot be written; the checkpoints before stay whole.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        seconds: float = 30.0,
        resumed: checkpoints.Checkpoint | None = None,
    ):
        super().__init__()
        self.directory, self.seconds = directory, seconds
        self._saved_at = time.monotonic()
        self._steps_per_epoch = 0
        self._best: dict[str, np.ndarray] = {}
        self._best_bound = -math.inf
        self._is_best_written = True
        self._copy: DVAE | None = None
        self._is_new = resumed is None
        # Of the epoch in hand: the running means, and the steps that lie behind the checkpoint.
        self._means: list[list[float]] = []
        self._offset = 0
        if resumed is not None:
            self._best = split_arrays(resumed)[1]
            self._best_bound = resumed.state["best_bound"] if self._best else -math.inf
            self._is_best_written = not self._best  # what lies there may be damaged
            self._offset = resumed.state["step_in_epoch"]
            self._means = resumed.state["means"]

    def on_train_begin(self, logs=None):
        if self._is_new:
            self._epoch = 0
            self._save(0, 0)
            self._is_new = False

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._steps_per_epoch = self._offset + self.params["steps"]
        # Keras has just set them to zero.
        for variable, value in zip(self.model.metrics_variables, self._means, strict=False):
            variable.assign(value)
        self._means = []

    def on_train_batch_end(self, batch, logs=None):
        done = self._offset + batch + 1
        # Of several replicas each has means of its own: their runs go on from ends of epochs.
        is_alone = self.model.distribute_strategy.num_replicas_in_sync == 1
        if is_alone and done < self._steps_per_epoch and self._is_due():
            self._save(self._epoch, done)

    def on_epoch_end(self, epoch, logs=None):
        self._offset = 0
        # Not every epoch ends with a validation.
        if logs.get("val_bound", -math.inf) > self._best_bound:
            self._best_bound = float(logs["val_bound"])
            self._best = checkpoints.capture(self.model)
            self._is_best_written = False
        if self._is_due():
            self._save(epoch + 1, 0)

    def on_train_end(self, logs=None):
        self._save(self._epoch + 1, 0)

    @property
    def best_model(self) -> DVAE | None:
        """The model that was last written as `model.keras`; None before the first."""
        return self._copy

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.seconds

    def _save(self, epoch: int, step_in_epoch: int) -> None:
        arrays = checkpoints.capture(self.model)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            return
        self._saved_at = time.monotonic()
        state = {
            "epoch": epoch,
            "step_in_epoch": step_in_epoch,
            "means": [v.numpy().tolist() for v in self.model.metrics_variables]
            if step_in_epoch
            else [],
            "best_bound": self._best_bound if self._best else None,
            "history": self.directory.read_history_text(),
        }
        both = {f"current-{name}": array for name, array in arrays.items()}
        both |= {f"best-{name}": array for name, array in self._best.items()}
        step = epoch * self._steps_per_epoch + step_in_epoch
        # The model first: a checkpoint that says that training has ended must not be ahead of it.
        if not self._is_best_written:
            self._write_best()
        self.directory.save_checkpoint(checkpoints.Checkpoint(step, both, state))

    def _write_best(self) -> None:
        # From a copy of one device: of a distributed model some variables are read by all workers
        # together, and only one is here.
        if self._copy is None:
            self._copy = type(self.model).from_config(self.model.get_config())
            self._copy.compile_from_config(self.model.get_compile_config())
        checkpoints.restore(self._copy, self._best)
        self.directory.save_model(self._copy)
        self._is_best_written = True


def split_arrays(
    checkpoint: checkpoints.Checkpoint,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the arrays of `Checkpointing`: the current ones, and those of the best epoch."""
    parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, array in checkpoint.arrays.items():
        kind, number = name.split("-")
        parts[kind == "best"][number] = array
    return parts
