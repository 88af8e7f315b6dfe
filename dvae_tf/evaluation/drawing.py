"""The figures of one evaluation, and figures that lay the curves of several over each other.

A figure is a function that draws it, so that one that fails does not take the others with it.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dvae_tf import figures
from dvae_tf.evaluation.denoising import measures, methods
from dvae_tf.evaluation.measuring import Evaluation
from dvae_tf.kinds import Kind
from dvae_tf.streamed import first_line

Row = Mapping[str, Any]
# x, mean and standard error of a curve.
Points = tuple[Sequence[float], Sequence[float], Sequence[float]]
Drawings = dict[str, Callable[[], Figure]]  # by file name

_LEVEL = "noise level"


def points(rows: Iterable[Row], key: str, x: str = "level") -> Points:
    """Return the points of a curve: the number `key` of each row against its `x`, if measured."""
    known = [row for row in rows if row[key]["mean"] is not None]
    errors = [row[key]["standard_error"] or 0.0 for row in known]
    return [row[x] for row in known], [row[key]["mean"] for row in known], errors


def by_noise(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by noise."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["noise"], []).append(row)
    return groups


def to_pngs(drawings: Drawings) -> tuple[dict[str, bytes], dict[str, str]]:
    """Draw figures: PNG files by name, and for each figure that failed, the error in one line."""
    drawn, failures = {}, {}
    for name, draw_one in drawings.items():
        try:
            drawn[name] = figures.to_png(draw_one())
        except Exception as error:  # whatever it is, the measurements are worth more
            failures[name] = first_line(error)
    return drawn, failures


def draw(evaluation: Evaluation, kind: Kind) -> Drawings:
    """Return the figures of one evaluation."""
    measured, arrays = evaluation.metrics, evaluation.arrays
    drawings: Drawings = {
        name: functools.partial(_denoising_curves, measured, kind, name) for name in measures(kind)
    }
    drawings["calibration"] = lambda: figures.calibration(
        measured["uncertainty"]["predicted"], measured["uncertainty"]["actual"]
    )
    drawings["latents"] = lambda: figures.latent_scatter(
        arrays["latents"], arrays.get("labels"), arrays["repeated_path"]
    )
    if "kl_per_unit" in arrays:
        drawings["kl"] = lambda: figures.kl_bars(arrays["kl_per_unit"])
    drawings |= robustness_curves({"": measured}, kind)
    drawings["adversarial"] = lambda: figures.curves(
        {
            "same L2 size": {
                name: points(measured["adversarial"], name, x="size")
                for name in ("random", "attack")
            }
        },
        xlabel="L2 size (training noise = 1)",
        ylabel="squared error per value",
    )
    return drawings | kind.evaluation_figures(arrays)


def _denoising_curves(measured: Mapping[str, Any], kind: Kind, name: str) -> Figure:
    """Draw one measure of denoising against the noise level."""
    return figures.curves(
        _methods_compared(measured["denoising"], methods(kind), name),
        xlabel=_LEVEL,
        ylabel=measures(kind)[name].axis,
    )


def _methods_compared(
    rows: Sequence[Row], labels: Mapping[str, str], key: str
) -> dict[str, dict[str, Points]]:
    """Return panels with curves: noise -> method -> points at levels above 0."""
    return {
        noise: {
            label: points([r for r in group if r["method"] == method and r["level"] > 0], key)
            for method, label in labels.items()
        }
        for noise, group in by_noise(rows).items()
    }


def robustness_curves(runs: Mapping[str, Mapping[str, Any]], kind: Kind) -> Drawings:
    """Return figures of curves against the noise level, with one line for each run.

    Args:
        runs: name of the run -> content of its metrics.json.
        kind: kind of data.
    """
    drawings: Drawings = {}
    for name, key, ylabel in (
        ("bound", "bound", f"bound (nats per {kind.noun})"),
        ("error", "squared_error", "squared error per value"),
        ("probe", "probe_accuracy", "probe accuracy"),
    ):
        panels: dict[str, dict[str, Points]] = {}
        for run, measured in runs.items():
            for noise, rows in by_noise(measured["robustness"]).items():
                if all(key in row for row in rows):
                    panels.setdefault(noise, {})[run] = points(rows, key)
        if panels:
            drawings[name] = functools.partial(figures.curves, panels, xlabel=_LEVEL, ylabel=ylabel)
    return drawings


def compare(runs: Mapping[str, Mapping[str, Any]], kind: Kind) -> Drawings:
    """Return figures that lay the curves of several runs over each other.

    Args:
        runs: name of the run -> content of its metrics.json.
        kind: kind of data.
    """
    name, measure = next(iter(measures(kind).items()))
    panels: dict[str, dict[str, Points]] = {}
    for run, measured in runs.items():
        for noise, rows in by_noise(measured["denoising"]).items():
            mine = [row for row in rows if row["method"] == "model_average"]
            panels.setdefault(noise, {})[run] = points(mine, name)
    first = functools.partial(figures.curves, panels, xlabel=_LEVEL, ylabel=measure.axis)
    return {name: first} | robustness_curves(runs, kind)
