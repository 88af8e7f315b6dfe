"""A run directory: the one owner that reads and writes its files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvae_tf import datasets, files
from dvae_tf.model import DVAE
from dvae_tf.runs import experiment
from dvae_tf.runs.configuration import Configuration


class RunDirectory:
    """The files of one run.

    Args:
        path: of the directory.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def export_path(self) -> Path:
        """Where versions of the SavedModel lie."""
        return self.path / "export"

    def read_config(self) -> tuple[Configuration, dict[str, Any]]:
        """Return the resolved configuration, and the whole content of config.json."""
        return experiment.read_config(self.path)

    def read_history(self) -> dict[str, list[float]]:
        """Return the columns of history.csv; NaN in epochs without validation."""
        return experiment.read_history(self.path)

    def read_metrics(self) -> dict[str, Any] | None:
        """Return evaluation/metrics.json; None where the run was not evaluated."""
        return experiment.describe_run(self.path)["metrics"]

    def load_model(self) -> DVAE:
        """Return the best model; nothing in its file is executed."""
        return experiment.load_model(self.path)

    def check_data(self, dataset: datasets.Dataset) -> None:
        """Refuse data of other sizes than the run was trained on, and warn of other values."""
        experiment.check_data(self.path, dataset)

    @contextlib.contextmanager
    def replacing_evaluation(self, *parts: str) -> Iterator[Path]:
        """Yield an empty directory that takes the place of evaluation/ (or of one in it) at the end."""
        with files.replacing(self.path.joinpath("evaluation", *parts)) as directory:
            yield directory
