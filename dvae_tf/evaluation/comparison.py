"""Comparing several runs: the check that they can be compared, their figures, and the page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import datasets
from dvae_tf.evaluation import captions, drawing, pages
from dvae_tf.evaluation.denoising import measures
from dvae_tf.kinds import Kind


def check(tests: Mapping[str, datasets.Split]) -> None:
    """Refuse runs that do not have the same test examples.

    Args:
        tests: name of the run -> its test split.

    Raises:
        ValueError: if two runs differ; the message names them.
    """
    (first, expected), *others = tests.items()
    for name, test in others:
        if not _is_same(expected.examples, test.examples):
            raise ValueError(
                f"Runs that are compared must have the same test {expected.kind.noun}s: the same "
                f"dataset, split and binarize. Received: {first} and {name}. Evaluate them one by "
                "one."
            )


def _is_same(a, b) -> bool:
    """Return whether two nests of arrays are equal."""
    try:
        tf.nest.assert_same_structure(a, b)
    except (TypeError, ValueError):
        return False
    pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def write(directory: Path, runs: Mapping[str, Mapping[str, Any]], kind: Kind) -> dict[str, str]:
    """Write comparison.html, metrics.json and a PNG for each figure.

    Args:
        directory: an empty directory.
        runs: name of the run -> content of its metrics.json.
        kind: kind of data.

    Returns:
        the figures that could not be drawn: name -> error in one line. The page says so, too.
    """
    drawn, failures = drawing.to_pngs(drawing.compare(runs, kind))
    (directory / "comparison.html").write_text(
        render(runs, drawn, failures, kind), encoding="utf-8"
    )
    (directory / "metrics.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    for name, content in drawn.items():
        (directory / f"{name}.png").write_bytes(content)
    return failures


def render(
    runs: Mapping[str, Mapping[str, Any]],
    drawn: Mapping[str, bytes],
    failures: Mapping[str, str],
    kind: Kind,
) -> str:
    """Return comparison.html: a table of all runs, and figures that lay their curves over each other."""
    first, measure = next(iter(measures(kind).items()))
    words = {
        first: f"{measure.label} of each run's posterior average.",
        **captions.robustness(kind),
    }
    return pages.template("comparison.html").render(
        runs=runs, drawn=drawn, failures=failures, captions=words, noun=kind.noun
    )
