"""Is the uncertainty right? Posterior draws compared with clean images, in NumPy.

If clean images and draws come from one posterior, a pixel's clean value is exchangeable with its S
draws. All expectations below are exact under this hypothesis, for every S.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = (0.5, 0.9, 0.95)


def coverage(
    clean: np.ndarray, draws: np.ndarray, levels: Sequence[float] = LEVELS
) -> dict[float, np.ndarray]:
    """Return the share of pixels inside their central intervals, for each level p: [N] each.

    Let r of the S draws lie below the clean value. Exchangeable values have r uniform in 0, ..., S: the
    clean value is a point of [r, r + 1] / (S + 1) on the scale of probability. A pixel counts as
    inside to the part of this range that lies in the central interval,

        w(r) = (S + 1) | [r, r + 1] / (S + 1)  n  [(1 - p) / 2, (1 + p) / 2] |,

    so that E[w] = p exactly; quantiles interpolated between draws have a bias of order 1/S. Draws equal
    to the clean value widen the range: [r, r + ties + 1].

    Args:
        clean: [N, ...], for images [N, H, W, C].
        draws: [S, N, ...], posterior draws of the clean examples.
        levels: probabilities of the intervals, each in (0, 1).

    Raises:
        ValueError: if the shapes do not fit.
    """
    clean, draws = _checked(clean, draws, least=1)
    below = np.sum(draws < clean, axis=0)
    ties = np.sum(draws == clean, axis=0)
    low, high = below / (len(draws) + 1), (below + ties + 1) / (len(draws) + 1)
    shares = {}
    for level in levels:
        inside = np.minimum(high, (1 + level) / 2) - np.maximum(low, (1 - level) / 2)
        weight = np.maximum(inside, 0) / (high - low)
        shares[level] = weight.reshape(len(clean), -1).mean(axis=1)
    return shares


def stddev_ratio(clean: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the error of the mean of the draws over the standard deviation that they claim: [N].

        sqrt( mean (x - m)^2 / ((1 + 1/S) mean v) )

    m and v are each pixel's mean and unbiased variance over the S draws; 1/S is for the error of m. The
    ratio is 1 for a calibrated posterior, above 1 for one that is too sure of itself.

    Args:
        clean: [N, ...].
        draws: [S, N, ...], at least two.

    Raises:
        ValueError: if the shapes do not fit or there is only one draw.
    """
    clean, draws = _checked(clean, draws, least=2)
    error, variance = _squares(clean, draws)
    means = (x.reshape(len(clean), -1).mean(axis=1) for x in (error, variance))
    return np.sqrt(np.divide(*means))


@dataclass(frozen=True)
class CalibrationTable:
    """Claimed standard deviations and real errors, for pixels of similar uncertainty: [bins] each.

    Attributes:
        stddev: root mean square of the standard deviations of the draws.
        error: root mean square of (x - m), divided by sqrt(1 + 1/S); equal to `stddev` if calibrated.
        count: number of pixels.
    """

    stddev: np.ndarray
    error: np.ndarray
    count: np.ndarray


def calibration_table(clean: np.ndarray, draws: np.ndarray, num_bins: int = 10) -> CalibrationTable:
    """Return errors beside standard deviations, in bins of equal size from sure to unsure pixels.

    Every other draw chooses the bin, the rest is measured. Otherwise a pixel with a small standard
    deviation by chance would count as sure.

    Args:
        clean: [N, ...].
        draws: [S, N, ...], at least four.
        num_bins: number of bins.

    Raises:
        ValueError: if the shapes do not fit or there are fewer than four draws.
    """
    clean, draws = _checked(clean, draws, least=4)
    order = np.argsort(np.var(draws[::2], axis=0), axis=None)
    error, variance = (x.ravel() for x in _squares(clean, draws[1::2]))
    bins = [chosen for chosen in np.array_split(order, num_bins) if len(chosen)]
    return CalibrationTable(
        stddev=np.sqrt([variance[chosen].mean() for chosen in bins]),
        error=np.sqrt([error[chosen].mean() for chosen in bins]),
        count=np.array([len(chosen) for chosen in bins]),
    )


def _squares(clean: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (x - m)^2 / (1 + 1/S), whose mean is the variance, and the unbiased variance."""
    error = np.square(clean - draws.mean(axis=0)) / (1 + 1 / len(draws))
    return error, draws.var(axis=0, ddof=1)


def _checked(clean, draws, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    clean, draws = np.asarray(clean, np.float64), np.asarray(draws, np.float64)
    if draws.shape[1:] != clean.shape or len(draws) < least:
        raise ValueError(
            f"`draws` must have the shape [S, *clean.shape], with S of at least {least}. "
            f"Received: shapes {draws.shape} and {clean.shape}. Draw more from the posterior."
        )
    return clean, draws
