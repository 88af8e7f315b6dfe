"""Uncertainty: how well the predicted standard deviation matches the actual error."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from dvae_tf import nests
from dvae_tf.evaluation.denoising import posterior_average
from dvae_tf.evaluation.noise import corrupted
from dvae_tf.evaluation.settings import Settings
from dvae_tf.kinds.kind import Example
from dvae_tf.model import DVAE


@dataclass(frozen=True)
class Calibration:
    """Predicted and actual errors of values, in bins with equally many values; all [bins]."""

    predicted: np.ndarray  # root mean square of the predicted standard deviation
    actual: np.ndarray  # root mean square of the error
    count: np.ndarray


def calibration(error: np.ndarray, stddev: np.ndarray, *, num_bins: int = 12) -> Calibration:
    """Bin values by their predicted standard deviation, and compare it with the actual error.

    Args:
        error: prediction minus truth, of any shape.
        stddev: predicted standard deviation, of the same shape.
        num_bins: number of bins; all hold equally many values.
    """
    order = np.argsort(stddev, axis=None, kind="stable")
    squares = np.stack([stddev.ravel()[order], error.ravel()[order]]).astype(np.float64) ** 2
    parts = np.array_split(squares, min(num_bins, squares.shape[1]), axis=1)
    predicted, actual = np.sqrt([part.mean(axis=1) for part in parts]).T
    return Calibration(predicted, actual, np.array([part.shape[1] for part in parts]))


def measure(model: DVAE, clean: Example, settings: Settings) -> dict[str, list[float]]:
    """Measure the calibration of posterior averages under the training noise, as in metrics.json."""
    noisy = corrupted(model.corruption, clean, settings.seed)
    denoised = posterior_average(model, noisy, settings)
    error = nests.as_matrix(denoised.mean) - nests.as_matrix(clean)
    bins = calibration(error, nests.as_matrix(denoised.stddev))
    return {name: [float(v) for v in values] for name, values in dataclasses.asdict(bins).items()}
