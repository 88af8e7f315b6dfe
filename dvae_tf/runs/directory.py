"""Run directories. Only this module reads and writes the files of a run."""

import contextlib
import csv
import errno
import functools
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dvae_tf import commands, figures, files
from dvae_tf.datasets import Dataset
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints, config_file, history, model_file
from dvae_tf.runs.configuration import Configuration, ConfigurationError
from dvae_tf.runs.lock import Lock
from dvae_tf.runs.options import is_utf8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Result = TypeVar("_Result")
# What evaluations write into a run directory itself.
_RESULTS = ("evaluation", ".measured.npz")
# Errors of the system for a path at which no directory can be created.
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
# Its errors for a path at which another process has just created one.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


class RunDirectory:
    """The files of one run.

    ::

        config.json      resolved configuration, data, versions
        model.keras      best model by validation bound
        history.csv      a row for every epoch
        checkpoints/     only during training
        logs/            for TensorBoard
        figures/         *.png
        export/          versions of the SavedModel
        evaluation/      metrics.json, figures, report
        diagnosis.json   only if training diverged
        .measured.npz    parts of an evaluation that has not ended

    Args:
        path: path of the directory, which need not exist.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.model_path = self.path / "model.keras"
        self.history_path = self.path / "history.csv"
        self.logs_path = self.path / "logs"
        self.export_path = self.path / "export"
        self.diagnosis_path = self.path / "diagnosis.json"
        self.measured_path = self.path / ".measured.npz"
        self._config_path = self.path / "config.json"
        self._checkpoints_path = self.path / "checkpoints"
        self._metrics_path = self.path / "evaluation" / "metrics.json"
        self._lock = Lock(self._config_path)
        self._results_lock = Lock(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return f"python train.py --resume {shlex.quote(str(self.path))}"

    # ---- making it ----

    @classmethod
    def create(cls, config: Configuration, dataset: Dataset, corruption: str) -> "RunDirectory":
        """Create a run directory with its config.json.

        Args:
            config: the configuration. Its `run_dir` says where; None takes the next free name.
            dataset: the data set that the run trains on.
            corruption: the corruption in words, from `Kind.describe_noise`.

        Raises:
            ConfigurationError: if the directory exists already, or cannot be created there.
        """
        text = config_file.compose(config, dataset, corruption)
        while True:
            directory = cls(config.run_dir or _next_free(config))
            if directory._appear(text):
                return directory
            if config.run_dir is None:
                continue  # another run has just taken this number
            is_run = directory._config_path.exists()
            remedy = f", or continue that run: {directory.resume_command}" if is_run else ""
            raise ConfigurationError(
                f"`run_dir` must not exist yet. Received: {directory}. Choose another one{remedy}."
            )

    def _appear(self, config_text: str) -> bool:
        """Create the directory with its config.json; return False if something is there already."""
        if os.path.lexists(self.path):
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.appearing(self.path) as unfinished:
                unfinished.mkdir()
                (unfinished / "config.json").write_text(config_text, encoding="utf-8")
        except OSError as error:
            if error.errno in _TAKEN and os.path.lexists(self.path):
                return False
            if error.errno not in _NO_PLACE:
                raise
            raise ConfigurationError(
                "`run_dir` must be a path at which a directory can be created. "
                f"Received: {self.path} ({error.strerror}). Choose another place."
            ) from error
        return True

    # ---- working on it alone ----

    def lock(self, *, only_results: bool = False) -> None:
        """Keep other processes from working on the run, and remove what killed ones left.

        The lock is held until `unlock`, or until this object or the process ends.

        Args:
            only_results: lock only the evaluation and the exports, which have a lock of their own, so
                that a run can be evaluated while it trains.

        Raises:
            ConfigurationError: if this is not a run directory, or another process holds the lock.
            OSError: if the run directory is read-only.
        """
        self.read_config()
        lock, work = self._lock, "training"
        if only_results:
            lock, work = self._results_lock, "evaluating or exporting"
        if not lock.acquire():
            raise ConfigurationError(
                f"{self} must not be in use. Received: a run that another process is {work}. "
                "Wait for it to end, or stop it."
            )
        files.sweep(self.path, of=lambda name: (name in _RESULTS) == only_results)
        for part in (("evaluation",) if only_results else ("checkpoints", "figures")) + ("export",):
            files.sweep(self.path / part)

    def unlock(self) -> None:
        """Let other processes work on the run."""
        self._lock.release()
        self._results_lock.release()

    @contextlib.contextmanager
    def locked(self, *, only_results: bool = False) -> Iterator[None]:
        """Hold the lock for a `with` block."""
        self.lock(only_results=only_results)
        try:
            yield
        finally:
            self.unlock()

    # ---- config.json ----

    def read_config(self) -> tuple[Configuration, dict[str, Any]]:
        """Return the resolved configuration, and the complete content of config.json.

        Raises:
            ConfigurationError: if the file is missing or cannot be read.
        """
        if not is_utf8(str(self.path)):
            raise ConfigurationError(
                "A run directory must have a name in UTF-8, as TensorFlow writes paths. Received: "
                f"{str(self.path)!a}. Rename it."
            )
        try:
            return config_file.parse(self._config_path.read_text(encoding="utf-8"))
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._config_path}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f"{self.path} must be a run directory with a config.json. Received: {error}. "
                "Name a directory that train.py made."
            ) from error

    def check_data(self, dataset: Dataset) -> None:
        """Compare data with those that the run was trained on.

        Other values of the same number and shape are only a reason for a warning.

        Raises:
            ConfigurationError: if number or shape of the examples differ; the message says how.
        """
        saved = self.read_config()[1]["data"]
        noun = dataset.kind.noun
        for name, value in config_file.describe(dataset).items():
            if saved.get(name, value) == value:
                continue
            if name == "digest":  # only a warning: another machine may decode JPEGs differently
                commands.warn(
                    f"the {noun}s are not those that {self.path} was trained on: training {noun}s "
                    f"may be among the test {noun}s"
                )
                continue
            raise ConfigurationError(
                f"The data of {self.path} must be those it was trained on, with {name} {saved[name]}. "
                f"Received: {name} {value}. Restore the data, or start a new run."
            )

    # ---- history.csv ----

    def read_history_text(self) -> str:
        """Return the text of history.csv; empty if there is no such file.

        Raises:
            ValueError: if it is not text.
        """
        return self.history_path.read_bytes().decode() if self.history_path.exists() else ""

    def write_history_text(self, text: str) -> None:
        """Replace history.csv by an earlier text; an empty text removes the file."""
        if text:
            files.write(self.history_path, text)
        else:
            self.history_path.unlink(missing_ok=True)

    def read_history(self) -> history.Columns:
        """Return the columns of history.csv; NaN in epochs without validation.

        Raises:
            ConfigurationError: if it is damaged, or holds no validation.
        """
        try:
            columns = history.columns(history.rows(self.read_history_text()))
            if np.isnan(columns["val_bound"]).all():
                raise ValueError("no validation")
            return columns
        except (ValueError, TypeError, LookupError, csv.Error) as error:
            raise ConfigurationError(
                f"{self.history_path} must be the history of a run with validations. Received: "
                f"{error!r}. Go on with {self.resume_command}, or train again."
            ) from error

    # ---- model.keras ----

    def load_model(self) -> DVAE:
        """Load the best model, without running code from the file.

        Raises:
            ConfigurationError: if model.keras is missing or damaged, or could run code.
        """
        if not self.model_path.exists():
            raise ConfigurationError(
                f"{self.path} must hold model.keras. Received: a run without it. Finish its "
                f"training: {self.resume_command}"
            )
        try:
            return model_file.load(self.model_path)
        except Exception as error:  # Keras raises many types on a damaged file
            raise ConfigurationError(
                f"{self.model_path} must be a complete model file. "
                f"Received: {str(error)[:200] or type(error).__name__}. "
                "Train the run again."
            ) from error

    def save_model(self, model: DVAE) -> None:
        """Write model.keras; it replaces an earlier one."""
        with files.appearing(self.model_path) as path:
            model.save(path)

    # ---- checkpoints/ ----

    def save_checkpoint(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Write a checkpoint, and remove all but the newest three."""
        checkpoints.save(self._checkpoints_path, checkpoint)

    def load_checkpoint(self) -> checkpoints.Checkpoint | None:
        """Return the newest intact checkpoint or None, and warn of damaged ones.

        Raises:
            CheckpointError: if there are checkpoints and all are damaged.
        """
        return checkpoints.load_newest(self._checkpoints_path, report=commands.warn)

    def remove_checkpoints(self) -> None:
        """Remove all checkpoints, once training, figures and export are complete."""
        shutil.rmtree(self._checkpoints_path, ignore_errors=True)

    # ---- figures, diagnosis, export, evaluation ----

    def write_figures(self, drawn: "Mapping[str, Figure]") -> None:
        """Write figures/NAME.png for every name."""
        directory = self.path / "figures"
        directory.mkdir(exist_ok=True)
        for name, figure in drawn.items():
            files.write(directory / f"{name}.png", figures.to_png(figure))

    def write_diagnosis(self, found: Mapping[str, Any]) -> None:
        """Write diagnosis.json, with the JSON values from `diagnosis.find`."""
        files.write(self.diagnosis_path, json.dumps(found, indent=1) + "\n")

    def is_exported(self, version: int) -> bool:
        """Return whether a version of the SavedModel exists."""
        return (self.export_path / str(version)).exists()

    @contextlib.contextmanager
    def replacing_evaluation(self, *parts: str) -> Iterator[Path]:
        """Yield an empty directory that replaces evaluation/, or a part of it, at the end."""
        with files.replacing(self.path.joinpath("evaluation", *parts)) as directory:
            yield directory

    def read_metrics(self) -> dict[str, Any] | None:
        """Return the content of evaluation/metrics.json, or None if the run was not evaluated.

        Raises:
            ConfigurationError: if it is damaged.
        """
        if not self._metrics_path.exists():
            return None
        try:
            return json.loads(self._metrics_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigurationError(
                f"{self._metrics_path} must be the metrics of a run. Received: {error!r}. "
                "Evaluate the run again."
            ) from error


def locking(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """Decorate a command whose positional arguments are paths of runs: it locks their results."""

    @functools.wraps(command)
    def with_locks(*paths, **options):
        with contextlib.ExitStack() as stack:
            for path in {Path(path).resolve(): path for path in paths}.values():
                stack.enter_context(RunDirectory(path).locked(only_results=True))
            return command(*paths, **options)

    return with_locks


def _next_free(config: Configuration) -> Path:
    """Return runs/DATASET-NOISE-NUMBER; NUMBER is one more than the highest in use."""
    stem = Path(config.dataset).stem if not config.dataset.startswith("tfds:") else config.dataset
    name = re.sub(r"[^\w.-]+", "_", f"{stem}-{config.noise}")
    numbers = [
        int(match[1])
        for path in Path("runs").glob(f"{name}-*")
        if (match := re.fullmatch(re.escape(name) + r"-(\d+)", path.name))
    ]
    return Path("runs") / f"{name}-{max(numbers, default=0) + 1}"
