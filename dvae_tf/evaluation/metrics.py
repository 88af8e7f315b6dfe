"""Measures of denoising and of features, in NumPy: one value for each image, unit or split."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# A unit is active when its posterior mean varies over the data by more than this:
# Burda et al. (2016), arXiv:1509.00519, section 5.2.
ACTIVE_VARIANCE = 0.01


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


def active_units(posterior_means: np.ndarray) -> np.ndarray:
    """Return which latent units are active, Var_x(E[z|x]) > 0.01: [N, L] -> bool [L]."""
    return posterior_means.var(axis=0) > ACTIVE_VARIANCE


def fit_linear_probe(features: np.ndarray, labels: np.ndarray):
    """Return a logistic regression on standardised features: [N, L], [N]."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


def fit_nearest_neighbours(features: np.ndarray, labels: np.ndarray):
    """Return a classifier by the five nearest features: [N, L], [N]."""
    return KNeighborsClassifier(min(5, len(features))).fit(features, labels)


@dataclass(frozen=True)
class Calibration:
    """Predicted against actual error, in bins of equal size; all [bins], on the pixel scale."""

    predicted: np.ndarray  # root mean square of the predicted standard deviation
    actual: np.ndarray  # root mean square of the error
    count: np.ndarray


def calibration(error: np.ndarray, stddev: np.ndarray, *, num_bins: int = 12) -> Calibration:
    """Sort pixels by predicted standard deviation and compare it with their actual error.

    Args:
        error: prediction minus truth, any shape.
        stddev: predicted standard deviation, of the same shape.
        num_bins: bins with equally many pixels each.
    """
    order = np.argsort(stddev, axis=None, kind="stable")
    squares = np.stack([stddev.ravel()[order], error.ravel()[order]]).astype(np.float64) ** 2
    parts = np.array_split(squares, min(num_bins, squares.shape[1]), axis=1)
    predicted, actual = np.sqrt([part.mean(axis=1) for part in parts]).T
    return Calibration(predicted, actual, np.array([part.shape[1] for part in parts]))
