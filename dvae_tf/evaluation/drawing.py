"""The figures of one evaluation, and figures that lay the curves of several over each other."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dvae_tf import figures
from dvae_tf.evaluation.denoising import measures, methods
from dvae_tf.evaluation.measuring import Evaluation
from dvae_tf.kinds import Kind

Row = Mapping[str, Any]
# x, mean and standard error of a curve.
Points = tuple[Sequence[float], Sequence[float], Sequence[float]]

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


def draw(evaluation: Evaluation, kind: Kind) -> dict[str, Figure]:
    """Return the figures of one evaluation, by file name."""
    measured, arrays = evaluation.metrics, evaluation.arrays
    drawn = {
        name: figures.curves(
            _methods_compared(measured["denoising"], methods(kind), name),
            xlabel=_LEVEL,
            ylabel=measure.axis,
        )
        for name, measure in measures(kind).items()
    }
    uncertainty = measured["uncertainty"]
    drawn["calibration"] = figures.calibration(uncertainty["predicted"], uncertainty["actual"])
    drawn["latents"] = figures.latent_scatter(
        arrays["latents"], arrays.get("labels"), arrays["repeated_path"]
    )
    if "kl_per_unit" in arrays:
        drawn["kl"] = figures.kl_bars(arrays["kl_per_unit"])
    drawn |= robustness_curves({"": measured}, kind)
    attacks = {
        name: points(measured["adversarial"], name, x="size") for name in ("random", "attack")
    }
    drawn["adversarial"] = figures.curves(
        {"same L2 size": attacks},
        xlabel="L2 size (training noise = 1)",
        ylabel="squared error per value",
    )
    return drawn | kind.evaluation_figures(arrays)


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


def robustness_curves(runs: Mapping[str, Mapping[str, Any]], kind: Kind) -> dict[str, Figure]:
    """Return figures of curves against the noise level, with one line for each run.

    Args:
        runs: name of the run -> content of its metrics.json.
        kind: kind of data.
    """
    drawn = {}
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
            drawn[name] = figures.curves(panels, xlabel=_LEVEL, ylabel=ylabel)
    return drawn


def compare(runs: Mapping[str, Mapping[str, Any]], kind: Kind) -> dict[str, Figure]:
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
    drawn = {name: figures.curves(panels, xlabel=_LEVEL, ylabel=measure.axis)}
    return drawn | robustness_curves(runs, kind)
