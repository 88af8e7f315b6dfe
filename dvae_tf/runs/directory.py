"""Run directories. Only this module reads and writes the files of a run."""

import contextlib
import csv
import errno
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dvae_tf import figures, files
from dvae_tf.datasets import Dataset
from dvae_tf.model import DVAE
from dvae_tf.runs import checkpoints, config_file, history
from dvae_tf.runs.configuration import Configuration, ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Errors of the system for a path at which no directory can be created.
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {files.printable(text)}", file=sys.stderr)


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
        directory = cls(config.run_dir or _next_free(config))
        path = directory.path
        if os.path.lexists(path):
            is_run = directory._config_path.exists()
            remedy = f", or continue that run: {directory.resume_command}" if is_run else ""
            raise ConfigurationError(
                f"`run_dir` must not exist yet. Received: {path}. Choose another one{remedy}."
            )
        text = config_file.compose(config, dataset, corruption)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.appearing(path) as unfinished:
                unfinished.mkdir()
                (unfinished / "config.json").write_text(text, encoding="utf-8")
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            raise ConfigurationError(
                "`run_dir` must be a path at which a directory can be created. "
                f"Received: {path} ({error.strerror}). Choose another place."
            ) from error
        return directory

    def sweep(self) -> None:
        """Remove unfinished files of killed processes."""
        for place in (self.path, self._checkpoints_path, self.export_path):
            files.sweep(place)

    # ---- config.json ----

    def read_config(self) -> tuple[Configuration, dict[str, Any]]:
        """Return the resolved configuration, and the complete content of config.json.

        Raises:
            ConfigurationError: if the file is missing or cannot be read.
        """
        try:
            return config_file.parse(self._config_path.read_text(encoding="utf-8"))
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._config_path}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
        content = self.read_config()[1].get("data")
        saved = content if isinstance(content, dict) else {}  # the earliest runs have no such entry
        noun = dataset.kind.noun
        for name, value in config_file.describe(dataset).items():
            if saved.get(name, value) == value:
                continue
            if name == "digest":  # only a warning: another machine may decode JPEGs differently
                warn(
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
        """Load the best model, in Keras' safe mode.

        Raises:
            ConfigurationError: if model.keras is missing or damaged.
        """
        if not self.model_path.exists():
            raise ConfigurationError(
                f"{self.path} must hold model.keras. Received: a run without it. Finish its "
                f"training: {self.resume_command}"
            )
        try:
            return keras.models.load_model(self.model_path, safe_mode=True)
        except Exception as error:  # Keras raises many types on a damaged file
            raise ConfigurationError(
                f"{self.model_path} must be a complete model file. Received: {str(error)[:200]}. "
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
        return checkpoints.load_newest(self._checkpoints_path, report=warn)

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
