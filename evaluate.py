"""Evaluate trained runs: `python evaluate.py RUN_DIR [RUN_DIR ...]`."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

# Without it TensorFlow's start-up messages bury ours. It must be set before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from cyclopts import Parameter

from dvae_tf import DVAE, commands, datasets, figures, files
from dvae_tf.evaluation import measuring as evaluation
from dvae_tf.evaluation import report
from dvae_tf.runs import building, configuration
from dvae_tf.runs.directory import RunDirectory

app = commands.app(
    "evaluate.py",
    "Measure likelihood, denoising, features and robustness of trained runs, and write a "
    "report into each run directory. Several runs are also compared side by side.",
)


@app.default
def _evaluate(
    *run_dirs: Annotated[str, Parameter(name="RUN_DIR", help="Directories train.py made.")],
    num_importance_samples: Annotated[
        int,
        commands.whole_number("Samples for log p(x) of each image."),
    ] = 5000,
    noise_levels: Annotated[
        tuple[float, ...] | None,
        Parameter(
            help="Levels of every noise kind. Give them after RUN_DIR. [default: 0 to 5 times the "
            "training level]",
            consume_multiple=True,
            negative_iterable=(),
        ),
    ] = None,
    limit: Annotated[
        int | None,
        commands.whole_number("The first N test images."),
    ] = None,
    num_annealed: Annotated[
        int,
        commands.whole_number("Test images for annealed importance sampling; 0 for none."),
    ] = 20,
    seed: Annotated[int, commands.whole_number("Of every draw.")] = 0,
    data_dir: Annotated[
        str | None, Parameter(help="Directory of TensorFlow Datasets, if not the run's.")
    ] = None,
) -> int:
    settings = evaluation.Settings(
        num_importance_samples=num_importance_samples,
        noise_levels=noise_levels,
        limit=limit,
        num_annealed=num_annealed,
        seed=seed,
    )
    if not run_dirs:
        raise ValueError("RUN_DIR must be given: a directory that train.py made.")
    runs = [_load(Path(run_dir), data_dir) for run_dir in run_dirs]
    _check_comparable(runs)
    measured = {}
    for run in runs:
        print(f"{run.path}:", flush=True)
        measured[str(run.path)] = _evaluate_one(run, settings)
    if len(runs) > 1:
        print(f"comparison: {_compare(runs[0].path, measured)}")
    return 0


class _Run(NamedTuple):
    path: Path
    config: configuration.Configuration
    versions: dict[str, str]
    model: DVAE
    dataset: datasets.Dataset


def _load(path: Path, data_dir: str | None) -> _Run:
    """Load everything that a run's evaluation needs, before anything is written."""
    directory = RunDirectory(path)
    config, content = directory.read_config()
    model = directory.load_model()
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    dataset = building.load_dataset(config)
    directory.check_data(dataset)
    return _Run(path, config, content.get("versions", {}), model, dataset)


def _check_comparable(runs: list[_Run]) -> None:
    """Refuse runs that were not trained on the same test images."""
    first = runs[0].dataset.test.examples
    for run in runs[1:]:
        test = run.dataset.test.examples
        if test.shape != first.shape or not np.array_equal(test, first):
            raise ValueError(
                "Runs that are compared must have the same test images: the same --dataset, --split "
                f"and --binarize. Received: {runs[0].path} and {run.path}. Evaluate them one by one."
            )


def _evaluate_one(run: _Run, settings: evaluation.Settings) -> dict[str, Any]:
    """Measure one run, and replace its evaluation by the new one when that is complete."""
    bar: list[keras.utils.Progbar] = []

    def progress(done: int, count: int) -> None:
        if not bar:
            bar.append(keras.utils.Progbar(count, unit_name="image"))
        bar[0].update(done)

    result = evaluation.evaluate(
        run.model,
        run.config,
        run.dataset,
        settings,
        report=lambda text: print(f"  {text}", flush=True),
        progress=progress,
    )
    images = {
        name: figures.to_png(figure)
        for name, figure in report.draw(result, run.dataset.kind).items()
    }
    settings_used = {f"evaluation: {k}": v for k, v in dataclasses.asdict(settings).items()}
    html = report.render(
        f"{run.dataset.name}, {run.model.corruption.describe()}: {run.path.resolve().name}",
        result.metrics,
        images,
        configuration.to_dict(run.config) | settings_used,
        run.versions,
    )
    with files.replacing(run.path / "evaluation") as directory:
        (directory / "metrics.json").write_text(json.dumps(result.metrics, indent=1) + "\n")
        (directory / "report.html").write_text(html)
        for name, content in images.items():
            (directory / f"{name}.png").write_bytes(content)
        _write_projector(directory / "projector", result.arrays)
    print(f"  report: {run.path / 'evaluation' / 'report.html'}", flush=True)
    return result.metrics


def _compare(path: Path, measured: dict[str, Any]) -> Path:
    """Write the side-by-side of all runs into the first one's evaluation."""
    drawn = report.comparison_figures(measured)
    images = {name: figures.to_png(figure) for name, figure in drawn.items()}
    with files.replacing(path / "evaluation" / "comparison") as directory:
        (directory / "comparison.html").write_text(report.render_comparison(measured, images))
        (directory / "metrics.json").write_text(json.dumps(measured, indent=1) + "\n")
        for name, content in images.items():
            (directory / f"{name}.png").write_bytes(content)
    return path / "evaluation" / "comparison" / "comparison.html"


def _write_projector(directory: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write posterior means for TensorBoard's projector: `tensorboard --logdir .../projector`."""
    directory.mkdir()
    np.savetxt(directory / "latents.tsv", arrays["latents"], fmt="%.6g", delimiter="\t")
    lines = ["embeddings {", '  tensor_name: "posterior means"', '  tensor_path: "latents.tsv"']
    if "labels" in arrays:
        (directory / "labels.tsv").write_text("".join(f"{v}\n" for v in arrays["labels"]))
        lines.append('  metadata_path: "labels.tsv"')
    (directory / "projector_config.pbtxt").write_text("\n".join([*lines, "}"]) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 after a user's error, 130 after Ctrl-C."""
    return commands.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
