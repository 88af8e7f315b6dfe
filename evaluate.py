"""Evaluate trained runs: `python evaluate.py RUN_DIR [RUN_DIR ...]`."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

# Otherwise TensorFlow's start-up messages would bury ours. Both variables only work before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says

import keras
from cyclopts import Parameter

from dvae_tf import DVAE, commands, datasets
from dvae_tf.evaluation import Settings, comparison, evaluate, report, unfinished
from dvae_tf.runs import building, configuration
from dvae_tf.runs.directory import RunDirectory, locking

app = commands.app(
    "evaluate.py",
    "Measure likelihood, denoising, features and robustness of trained runs, and write a "
    "report into each run directory. Several runs are also compared side by side. After a stop, the "
    "same command goes on with what is not measured yet.",
)


@app.default
@locking
def _evaluate(
    *run_dirs: Annotated[str, Parameter(name="RUN_DIR", help="Run directories from train.py.")],
    num_importance_samples: Annotated[
        int,
        commands.whole_number("Importance samples for log p(x) of each example."),
    ] = 5000,
    noise_levels: Annotated[
        tuple[float, ...] | None,
        Parameter(
            help="Levels at which every noise is tried. Give them after RUN_DIR. [default: 0 to 5 "
            "times the training level]",
            consume_multiple=True,
            negative_iterable=(),
        ),
    ] = None,
    limit: Annotated[
        int | None,
        commands.whole_number("Evaluate only the first N test examples. [default: all]"),
    ] = None,
    num_annealed: Annotated[
        int,
        commands.whole_number("Test examples for annealed importance sampling; 0 skips it."),
    ] = 20,
    seed: Annotated[int, commands.whole_number("Seed of all random numbers.")] = 0,
    data_dir: Annotated[
        str | None, Parameter(help="Directory of TensorFlow Datasets. [default: the run's]")
    ] = None,
) -> int:
    settings = Settings(
        num_importance_samples=num_importance_samples,
        noise_levels=noise_levels,
        limit=limit,
        num_annealed=num_annealed,
        seed=seed,
    )
    if not run_dirs:
        raise ValueError("RUN_DIR must be given. Name a directory that train.py made.")
    runs = [_load(Path(run_dir), data_dir) for run_dir in run_dirs]
    comparison.check({str(run.path): run.dataset.test for run in runs})
    unfinished_of = {str(run.path): _unfinished(run, settings) for run in runs}
    measured = {}
    for run in runs:
        print(f"{run.path}:", flush=True)
        measured[str(run.path)] = _evaluate_one(run, settings, unfinished_of[str(run.path)])
    if len(runs) > 1:
        with RunDirectory(runs[0].path).replacing_evaluation("comparison") as directory:
            _warn_of(comparison.write(directory, measured, runs[0].dataset.kind))
        place = runs[0].path / "evaluation" / "comparison" / "comparison.html"
        print(f"comparison: {place}")
    for measurements in unfinished_of.values():
        measurements.remove()
    return 0


class TrainedRun(NamedTuple):
    """A trained run with everything that its evaluation needs."""

    path: Path
    config: configuration.Configuration
    versions: dict[str, str]
    model: DVAE
    dataset: datasets.Dataset


def _load(path: Path, data_dir: str | None) -> TrainedRun:
    """Load everything that the evaluation of a run needs, before anything is written."""
    run_directory = RunDirectory(path)
    config, content = run_directory.read_config()
    model = run_directory.load_model()
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    dataset = building.load_dataset(config)
    run_directory.check_data(dataset)
    if model.is_conditional or model.observation is not None or dataset.is_paired:
        raise ValueError(
            f"{path} must hold a model of p(x) that was trained on clean {dataset.kind.noun}s. "
            "Received: a model of noisy ones. Measure it with denoise.py on files whose clean version "
            "you have."
        )
    return TrainedRun(path, config, content.get("versions", {}), model, dataset)


def _unfinished(run: TrainedRun, settings: Settings) -> unfinished.Measurements:
    """Return what was measured of a run with the same settings before a stop, if anything."""
    directory = RunDirectory(run.path)
    key = unfinished.key(directory.model_path.read_bytes(), run.dataset, settings)
    return unfinished.Measurements(directory.measured_path, key)


def _evaluate_one(
    run: TrainedRun, settings: Settings, measurements: unfinished.Measurements
) -> dict[str, Any]:
    """Measure one run; the new evaluation replaces the old one when it is complete."""
    bar: list[keras.utils.Progbar] = []

    def progress(done: int, count: int) -> None:
        if not bar:
            bar.append(keras.utils.Progbar(count, unit_name=run.dataset.kind.noun))
        bar[0].update(done)

    result = evaluate(
        run.model,
        run.dataset,
        settings,
        report=lambda text: print(f"  {text}", flush=True),
        progress=progress,
        unfinished=measurements,
    )
    settings_used = {f"evaluation: {k}": v for k, v in settings.described().items()}
    with RunDirectory(run.path).replacing_evaluation() as directory:
        failures = report.write(
            directory,
            result,
            run.dataset.kind,
            title=f"{run.dataset.name}, {run.dataset.kind.describe_noise(run.model.corruption)}: "
            f"{run.path.resolve().name}",
            config=configuration.to_dict(run.config) | settings_used,
            versions=run.versions,
        )
    _warn_of(failures)
    print(f"  report: {run.path / 'evaluation' / 'report.html'}", flush=True)
    return result.metrics


def _warn_of(failures: Mapping[str, str]) -> None:
    """Print a line for each figure that could not be drawn."""
    for name, error in failures.items():
        commands.warn(f"the figure {name} could not be drawn: {error}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    return commands.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
