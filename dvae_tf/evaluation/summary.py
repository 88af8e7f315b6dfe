"""Measured numbers: the mean of one value for each example, with its standard error."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean, standard error and number of the values of a sample."""

    mean: float
    standard_error: float | None  # None for a single value
    count: int


def summarize(values: np.ndarray) -> Summary:
    """Return the mean of `values`, [N], with its standard error."""
    values = np.asarray(values, np.float64)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Summary(float(values.mean()), error, len(values))


def as_json(summary: Summary) -> dict[str, float | int | None]:
    """Return a summary in the form of metrics.json; None replaces numbers that are not finite."""
    values = dataclasses.asdict(summary)
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }


def measured(values: np.ndarray) -> dict[str, float | int | None]:
    """Summarise the values of all examples, [N], in the form of metrics.json."""
    return as_json(summarize(values))
