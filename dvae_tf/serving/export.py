"""Export a model as a SavedModel, whose signatures need neither Keras nor this package.

::

    python -m dvae_tf.export RUN_DIR --version 2

`signatures` defines what the SavedModel computes, and `version` writes the files.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dvae_tf import commands
from dvae_tf.model import DVAE
from dvae_tf.runs.directory import RunDirectory, locking
from dvae_tf.serving import model_card
from dvae_tf.serving.version import versions, write_version

__all__ = ["export", "export_run", "main", "versions"]


def export(
    model: DVAE,
    directory: Path,
    *,
    version: int,
    run: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Write a model as the version `directory`/`version`, which appears by one rename.

    Args:
        model: a built model with a Functional encoder and decoder.
        directory: directory that holds one sub-directory for each version.
        version: an integer from 1 to 2**63 - 1.
        run: data of the run for the model card (see `model_card`); None describes only the model.
        report: called with one line if something optional was left out.

    Returns:
        the directory of the version.

    Raises:
        FileExistsError: if the version exists.
        OSError: if it cannot be written.
        TypeError, ValueError: if the version is out of range or the model cannot be served: it takes
            examples of any size, its latents cannot be drawn, or a layer is not pure (see `purity`).
    """
    if not 1 <= version < 2**63:
        raise ValueError(
            f"`version` must be from 1 to 2**63 - 1. Received: version={version}. Try 1."
        )
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(
            f"{target} must not exist yet, because a version never changes. Choose another version."
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_version(target, model, lambda: model_card.render(model, run), report)
    return target


def export_run(
    run_dir: Path, *, version: int | None = None, report: Callable[[str], None] = print
) -> Path:
    """Write the model of a run as `run_dir`/export/`version`; None takes the next free version.

    Raises:
        FileExistsError: if the version exists.
        OSError: if it cannot be written.
        ConfigurationError, ValueError: if the run has no model that can be served.
    """
    source = RunDirectory(run_dir)
    run = {
        **source.read_config()[1],
        "history": source.read_history(),
        "metrics": source.read_metrics(),
    }
    model = source.load_model()
    if version is None:
        version = max(versions(source.export_path), default=0) + 1
    return export(model, source.export_path, version=version, run=run, report=report)


app = commands.app(
    "python -m dvae_tf.export",
    "Write another version of a trained run's SavedModel, into RUN_DIR/export.",
)


@app.default
@locking
def _command(
    run_dir: Annotated[str, Parameter(name="RUN_DIR", help="Run directory from train.py.")],
    /,
    *,
    version: Annotated[
        int | None,
        commands.whole_number("Version to write, a positive integer. [default: the next one]"),
    ] = None,
) -> None:
    if version is not None and version < 1:
        raise ValueError(f"--version must be at least 1. Received: {version}. Try 2.")
    print(export_run(Path(run_dir), version=version))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    return commands.run(app, arguments)
