"""Measured numbers: the mean of one value for each example, with its standard error."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """The mean of a sample, its standard error, and how many values it has."""

    mean: float
    standard_error: float | None  # None for a single value
    count: int


def summarize(values: np.ndarray) -> Summary:
    """Return the mean of `values` over their only axis, with its standard error."""
    values = np.asarray(values, np.float64)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Summary(float(values.mean()), error, len(values))


def as_json(summary: Summary) -> dict[str, float | int | None]:
    """Return a summary as a measured number of metrics.json; NaN, not measured, becomes None."""
    values = dataclasses.asdict(summary)
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }


def measured(values: np.ndarray) -> dict[str, float | int | None]:
    """Return one value for each example, [N], as a measured number of metrics.json."""
    return as_json(summarize(values))
