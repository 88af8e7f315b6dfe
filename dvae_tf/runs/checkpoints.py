"""Checkpoints: the complete state of a run, each in one file with a checksum.

The first line of a file holds the SHA-256 digest of the rest. The rest is an .npz of arrays and of
one JSON text. Reading it runs no code from the file.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from dvae_tf import files

_KEPT = 3
_TITLE = b"dvae_tf checkpoint 1 sha256 "
_NAME = re.compile(r"step-(\d+)\.ckpt")


class CheckpointError(ValueError):
    """The checkpoints cannot be used; the message says why."""


class Checkpoint(NamedTuple):
    """The state of a run.

    Attributes:
        step: number of training steps done.
        arrays: arrays of the model and the optimiser, by name.
        state: other values, as JSON.
    """

    step: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, and remove all but the newest three.

    Raises:
        OSError: if it cannot be written; the earlier ones then stay unchanged.
    """
    directory.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    state = np.frombuffer(json.dumps(checkpoint.state).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, state=state, **checkpoint.arrays)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    files.write(directory / f"step-{checkpoint.step:012d}.ckpt", _TITLE + digest + b"\n" + content)
    for path in _paths(directory)[_KEPT:]:
        path.unlink()


def load_newest(directory: Path, *, report: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest intact checkpoint, or None if there are no checkpoints.

    Args:
        directory: the directory that `save` wrote to.
        report: called with one line for every damaged checkpoint that is skipped.

    Raises:
        CheckpointError: if there are checkpoints and all are damaged.
    """
    paths = _paths(directory)
    problems = []
    for path in paths:
        try:
            checkpoint = _read(path)
        except Exception as error:  # NumPy raises many types on an odd file
            problems.append(f"{path} ({error})")
            continue
        for problem in problems:
            report(f"{problem} is passed over; {path.name}, before it, is intact.")
        return checkpoint
    if problems:
        raise CheckpointError(f"all are damaged: {', '.join(problems)}")
    return None


def capture(model: keras.Model) -> dict[str, np.ndarray]:
    """Copy everything that a step changes in a compiled model: its and the optimiser's variables."""
    return {
        f"{number:04d}": np.array(keras.ops.convert_to_numpy(variable))
        for number, variable in enumerate(_variables(model))
    }


def restore(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Set the variables of a compiled model to the arrays from `capture`.

    Raises:
        CheckpointError: if the arrays belong to another model; this one then stays unchanged.
    """
    variables = _variables(model)
    if len(arrays) == len(variables) - len(model.unsaved_state()):  # from version 0.1
        variables = variables[: len(arrays)]
    ours = [(tuple(variable.shape), variable.dtype) for variable in variables]
    theirs = [(array.shape, array.dtype.name) for _, array in sorted(arrays.items())]
    if ours != theirs:
        raise CheckpointError(
            f"it holds {len(theirs)} arrays, which are not those of this model's {len(ours)} variables"
        )
    for variable, (_, array) in zip(variables, sorted(arrays.items()), strict=True):
        variable.assign(array)


def _variables(model: keras.Model) -> list[keras.Variable]:
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    return [*model.weights, *model.optimizer.variables, *model.unsaved_state()]


def _paths(directory: Path) -> list[Path]:
    """Return the checkpoint files of a directory, newest first."""
    paths = directory.iterdir() if directory.is_dir() else ()
    return sorted((path for path in paths if _NAME.fullmatch(path.name)), reverse=True)


def _read(path: Path) -> Checkpoint:
    title, _, content = path.read_bytes().partition(b"\n")
    if title != _TITLE + hashlib.sha256(content).hexdigest().encode():
        raise ValueError("it is cut off or changed")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    state = json.loads(arrays.pop("state").tobytes())
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return Checkpoint(int(match[1]), arrays, state)
