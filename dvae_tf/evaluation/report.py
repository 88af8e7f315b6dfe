"""The report of an evaluation: figures, and one HTML file that holds everything."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from matplotlib.figure import Figure

from dvae_tf import figures, templating
from dvae_tf.evaluation.measuring import Evaluation
from dvae_tf.kinds import Kind

METHODS = {
    "noisy": "noisy input",
    "model_mean": "this model, mean",
    "model_average": "this model, posterior average",
    "median": "median",
    "total_variation": "total variation",
    "non_local_means": "non-local means",
    "wavelet": "wavelet",
}

# Headings of the report, in order, and under each the figures: file name -> caption.
SECTIONS: dict[str, dict[str, str]] = {
    "Denoising": {
        "psnr": "PSNR against noise level, for each kind of noise. Higher is better.",
        "ssim": "Structural similarity against noise level. Higher is better.",
        "calibration": "Per-pixel uncertainty: does the error grow as the predicted standard "
        "deviation says?",
    },
    "Features": {
        "latents": "Posterior means of the test images. The black paths are repeated denoising, "
        "from ring to dot.",
        "kl": "KL term of each latent unit.",
    },
    "Robustness": {
        "bound": "The bound against noise level, for each kind of noise.",
        "error": "Squared error of the denoised image against noise level.",
        "probe": "Accuracy of a linear probe on the posterior means of corrupted images.",
        "adversarial": "Squared error under random noise and under a projected-gradient attack of "
        "the same L2 size. Denoising is not adversarial robustness.",
        "attack": "Random noise and attack of the training noise's size, before and after denoising.",
    },
    "Manifold": {
        "repeated": "Repeated denoising: each image is the denoised one on its left, the first is "
        "corrupted.",
        "traversal": "Latent traversals from -3 to 3 of the units with the largest KL.",
        "interpolation": "Interpolation between the posterior means of two test images.",
        "samples": "E[x|z] for latents drawn from the prior.",
    },
}


def _points(rows: Sequence[Mapping[str, Any]], key: str):
    """Return x, mean and standard error of rows with a `level`."""
    rows = [row for row in rows if row[key]["mean"] is not None]
    errors = [row[key]["standard_error"] or 0.0 for row in rows]
    return [row["level"] for row in rows], [row[key]["mean"] for row in rows], errors


def _by_noise(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["noise"], []).append(row)
    return groups


def draw(evaluation: Evaluation, dataset_kind: Kind) -> dict[str, Figure]:
    """Return the figures of one evaluation, by file name."""
    measured, arrays = evaluation.metrics, evaluation.arrays
    xlabel = "noise level ([0, 1] scale)"
    drawn: dict[str, Figure] = {}
    for key, ylabel in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
        panels: dict[str, dict[str, Any]] = {}
        for noise, rows in _by_noise(measured["denoising"]).items():
            for method, label in METHODS.items():
                points = _points([r for r in rows if r["method"] == method and r["level"] > 0], key)
                panels.setdefault(noise, {})[label] = points
        drawn[key] = figures.curves(panels, xlabel=xlabel, ylabel=ylabel)
    uncertainty = measured["uncertainty"]
    drawn["calibration"] = figures.calibration(uncertainty["predicted"], uncertainty["actual"])
    drawn["latents"] = figures.latent_scatter(
        arrays["latents"], arrays.get("labels"), arrays["repeated_path"]
    )
    drawn["kl"] = figures.kl_bars(arrays["kl_per_unit"])
    drawn |= robustness_figures({"": measured})
    sizes = [row["size"] for row in measured["adversarial"]]
    drawn["adversarial"] = figures.curves(
        {
            "same L2 size": {
                name: (
                    sizes,
                    [row[name]["mean"] for row in measured["adversarial"]],
                    [row[name]["standard_error"] or 0.0 for row in measured["adversarial"]],
                )
                for name in ("random", "attack")
            }
        },
        xlabel="L2 size (training noise = 1)",
        ylabel="squared error per pixel",
    )
    return drawn | dataset_kind.evaluation_figures(arrays)


def robustness_figures(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Return curves against the noise level, one line for each run: name -> its metrics."""
    drawn = {}
    for name, key, ylabel in (
        ("bound", "bound", "bound (nats per image)"),
        ("error", "squared_error", "squared error per pixel"),
        ("probe", "probe_accuracy", "probe accuracy"),
    ):
        panels: dict[str, dict[str, Any]] = {}
        for run, measured in runs.items():
            for noise, rows in _by_noise(measured["robustness"]).items():
                if all(key in row for row in rows):
                    panels.setdefault(noise, {})[run] = _points(rows, key)
        if panels:
            drawn[name] = figures.curves(panels, xlabel="noise level ([0, 1] scale)", ylabel=ylabel)
    return drawn


def number(value: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Return a measured number as text: mean and, where there is one, standard error."""
    if value is None or value["mean"] is None:
        return "-"
    error = value["standard_error"]
    suffix = "" if error is None else f" ± {error:.{digits}f}"
    return f"{value['mean']:.{digits}f}{suffix}"


def _environment() -> jinja2.Environment:
    environment = templating.environment(autoescape=True)
    environment.filters["number"] = number
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment


def denoising_table(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each noise and level above 0: {noise, level, best, cells: method -> row}."""
    table: list[dict[str, Any]] = []
    for noise, rows in _by_noise(measured["denoising"]).items():
        for level in sorted({row["level"] for row in rows if row["level"] > 0}):
            cells = {row["method"]: row for row in rows if row["level"] == level}
            best = max(cells, key=lambda method: cells[method]["psnr"]["mean"])
            table.append({"noise": noise, "level": level, "best": best, "cells": cells})
    return table


def render(
    title: str,
    measured: Mapping[str, Any],
    images: Mapping[str, bytes],
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """Return report.html: tables, figures, configuration and versions in one file."""
    table = denoising_table(measured)
    beaten = [row for row in table if not row["best"].startswith("model")]
    clean = (
        row["psnr"]
        for row in measured["denoising"]
        if row["method"] == "model_mean" and row["level"] == 0
    )
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            measured=measured,
            images=images,
            sections=SECTIONS,
            methods=METHODS,
            table=table,
            beaten=beaten,
            ceiling=next(clean, None),
            underestimated=_is_underestimated(measured),
            trained_on=f"{config['noise']} noise of level {config['noise_level']}",
            config=config,
            versions=versions,
        )
    )


def _is_underestimated(measured: Mapping[str, Any]) -> bool:
    """Whether annealing finds more probability than importance sampling, beyond two errors."""
    difference = measured.get("annealed", {}).get("difference")
    if difference is None or difference["standard_error"] is None:
        return False
    return difference["mean"] > 2 * difference["standard_error"]


def render_comparison(runs: Mapping[str, Mapping[str, Any]], images: Mapping[str, bytes]) -> str:
    """Return comparison.html: one table of all runs, and their curves in one figure each."""
    captions = {**SECTIONS["Robustness"], "psnr": "PSNR of each run's posterior average."}
    template = _environment().get_template("comparison.html")
    return template.render(runs=runs, images=images, captions=captions)


def comparison_figures(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Return the overlaid curves of several runs: name -> their metrics."""
    panels: dict[str, dict[str, Any]] = {}
    for run, measured in runs.items():
        for noise, rows in _by_noise(measured["denoising"]).items():
            mine = [r for r in rows if r["method"] == "model_average"]
            panels.setdefault(noise, {})[run] = _points(mine, "psnr")
    drawn = {
        "psnr": figures.curves(panels, xlabel="noise level ([0, 1] scale)", ylabel="PSNR (dB)")
    }
    return drawn | robustness_figures(runs)
