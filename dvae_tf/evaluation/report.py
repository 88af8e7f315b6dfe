"""The report of an evaluation: a self-contained HTML page, and the files beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvae_tf.evaluation import captions, pages, projector
from dvae_tf.evaluation.denoising import measures, methods
from dvae_tf.evaluation.drawing import by_noise, draw, to_pngs
from dvae_tf.evaluation.measuring import Evaluation
from dvae_tf.kinds import Kind


def write(
    directory: Path,
    evaluation: Evaluation,
    kind: Kind,
    *,
    title: str,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, str]:
    """Write metrics.json, report.html, a PNG for each figure, and the files of the projector.

    Args:
        directory: an empty directory.
        evaluation: the results.
        kind: kind of data.
        title: title of the report.
        config: the options of the run and of its evaluation, by name.
        versions: versions of the packages that trained the run.

    Returns:
        the figures that could not be drawn: name -> error in one line. The report says so, too.
    """
    drawn, failures = to_pngs(draw(evaluation, kind))
    html = render(
        evaluation.metrics,
        drawn,
        kind,
        failures=failures,
        title=title,
        config=config,
        versions=versions,
    )
    (directory / "metrics.json").write_text(
        json.dumps(evaluation.metrics, indent=1) + "\n", encoding="utf-8"
    )
    (directory / "report.html").write_text(html, encoding="utf-8")
    for name, content in drawn.items():
        (directory / f"{name}.png").write_bytes(content)
    projector.write(
        directory / "projector", evaluation.arrays["latents"], evaluation.arrays.get("labels")
    )
    return failures


def render(
    measured: Mapping[str, Any],
    drawn: Mapping[str, bytes],
    kind: Kind,
    *,
    failures: Mapping[str, str],
    title: str,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """Return report.html: tables, figures, configuration and versions in one file.

    Args:
        measured: the content of metrics.json.
        drawn: PNG files of the figures, by name.
        failures: figures that could not be drawn, with their errors.
        kind, title, config, versions: as for `write`.
    """
    table = denoising_table(measured, kind)
    first = next(iter(measures(kind)))
    of_clean = (
        row[first]
        for row in measured["denoising"]
        if row["method"] == "model_mean" and row["level"] == 0
    )
    sections = captions.sections(kind)
    captioned = {name for figures_of_section in sections.values() for name in figures_of_section}
    sections["Manifold"] |= {name: name for name in drawn if name not in captioned}
    return pages.template("report.html").render(
        title=title,
        noun=kind.noun,
        measured=measured,
        drawn=drawn,
        failures=failures,
        sections=sections,
        methods=methods(kind),
        has_baselines=bool(kind.baselines()),
        measures=measures(kind),
        first=first,
        table=table,
        beaten=[row for row in table if not row["best"].startswith("model")],
        ceiling=next(of_clean, None),
        underestimated=_is_underestimated(measured),
        trained_on=f"{config['noise']} noise of level {config['noise_level']}",
        config=config,
        versions=versions,
    )


def denoising_table(measured: Mapping[str, Any], kind: Kind) -> list[dict[str, Any]]:
    """Return a row for each noise and level above 0: {noise, level, best, cells: method -> row}.

    `best` is the method with the best mean of the first measure.
    """
    first, measure = next(iter(measures(kind).items()))
    choose = min if measure.is_error else max
    table: list[dict[str, Any]] = []
    for noise, rows in by_noise(measured["denoising"]).items():
        for level in sorted({row["level"] for row in rows if row["level"] > 0}):
            cells = {row["method"]: row for row in rows if row["level"] == level}
            means = {method: row[first]["mean"] for method, row in cells.items()}
            best = choose(means, key=means.__getitem__)
            table.append({"noise": noise, "level": level, "best": best, "cells": cells})
    return table


def _is_underestimated(measured: Mapping[str, Any]) -> bool:
    """Return whether annealing exceeds importance sampling by more than two standard errors."""
    difference = measured.get("annealed", {}).get("difference")
    if difference is None or difference["standard_error"] is None:
        return False
    return difference["mean"] > 2 * difference["standard_error"]
