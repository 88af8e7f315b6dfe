"""Keras callbacks for training runs. Keras' own callbacks work beside them."""

import math
import re
import time
from typing import Annotated, Any

import keras
import numpy as np
import pydantic
from pydantic import Field

from dvae_tf import counts
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints, history
from dvae_tf.runs.directory import RunDirectory

_NAME = re.compile(r"(current|best)-\d+")


class KLWarmUp(keras.callbacks.Callback):
    """Raises the weight of the KL term linearly from 0 to 1 over the first epochs.

    The weight affects only `loss`; the logged `bound` and `elbo` always have weight 1.

    Args:
        epochs: epoch e, counted from 0, has weight min(e / epochs, 1).

    Raises:
        ValueError: if `epochs` is not positive. When training begins: if the model's gradient is
            doubly reparameterised, because that is unbiased only at weight 1.
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
    """Stops training after the call of TensorFlow in which the loss stops being finite.

    Attributes:
        epoch: the epoch in which this happened, counted from 0; None as long as all is finite.
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
    """Records the columns of history.csv in memory.

    Args:
        past: rows of earlier epochs, for a resumed run.
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
    """Writes checkpoints and the best model, so that a run can be stopped and resumed at any time.

    Checkpoints (see `checkpoints`) are written after epochs, and within epochs after calls of several
    steps. The best weights by validation bound are kept in memory, and written as `model.keras`
    together with the next checkpoint. Weights that are not finite are never written.

    Args:
        directory: run directory. The callback writes its `checkpoints/` and `model.keras`, and
            stores its `history.csv` in each checkpoint.
        seconds: least time between two checkpoints; 0 writes one at every opportunity.
        resumed: the checkpoint that the model was restored to; None for a new run.

    Raises:
        OSError: if something cannot be written; earlier checkpoints stay intact.
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
        # Running means at the start of this `fit`, and the steps of its first epoch already done.
        self._means: list[list[float]] = []
        self._offset = 0
        if resumed is not None:
            self._best = split_arrays(resumed)[1]
            self._best_bound = resumed.state["best_bound"] if self._best else -math.inf
            self._is_best_written = not self._best  # model.keras may be damaged: write it again
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
        # Keras has just reset them to zero.
        for variable, value in zip(self.model.metrics_variables, self._means, strict=False):
            variable.assign(value)
        self._means = []

    def on_train_batch_end(self, batch, logs=None):
        done = self._offset + batch + 1
        # Each replica has its own running means, so that distributed runs resume at ends of epochs.
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
        """The model last written as `model.keras`; None if none was written yet."""
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
        # The model first: a checkpoint must not say that training has ended before the model is there.
        if not self._is_best_written:
            self._write_best()
        self.directory.save_checkpoint(checkpoints.Checkpoint(step, both, state))

    def _write_best(self) -> None:
        # Save a copy on one device: all workers must join to read some variables of a distributed
        # model, and only the chief is here.
        if self._copy is None:
            self._copy = type(self.model).from_config(self.model.get_config())
            self._copy.compile_from_config(self.model.get_compile_config())
        checkpoints.restore(self._copy, self._best)
        self.directory.save_model(self._copy)
        self._is_best_written = True


class _State(pydantic.BaseModel):
    """The state in a checkpoint, which `Checkpointing` wrote."""

    model_config = pydantic.ConfigDict(strict=True)

    epoch: Annotated[int, Field(ge=0)]
    step_in_epoch: Annotated[int, Field(ge=0)]
    means: list[float | list[float]]
    best_bound: float | None
    history: str


def checked(checkpoint: checkpoints.Checkpoint) -> checkpoints.Checkpoint:
    """Return a checkpoint from a file unchanged.

    Raises:
        CheckpointError: if it does not hold what `Checkpointing` writes.
    """
    try:
        _State.model_validate(checkpoint.state)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise checkpoints.CheckpointError(f"a state with {place}: {first['msg']}") from error
    for name in checkpoint.arrays:
        if not _NAME.fullmatch(name):
            raise checkpoints.CheckpointError(f"an array named {name!r}, which no run writes")
    current, best = split_arrays(checkpoint)
    shapes = [{name: array.shape for name, array in part.items()} for part in (current, best)]
    if best and shapes[0] != shapes[1]:
        raise checkpoints.CheckpointError("best weights that are not those of the current model")
    return checkpoint


def split_arrays(
    checkpoint: checkpoints.Checkpoint,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the arrays in a checkpoint: of the current weights, and of the best ones."""
    parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, array in checkpoint.arrays.items():
        kind, number = name.split("-")
        parts[kind == "best"][number] = array
    return parts
