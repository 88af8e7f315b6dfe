"""Estimates of log p(x), with their errors."""

import math
from typing import NamedTuple

import numpy as np


class LogLikelihood(NamedTuple):
    """Estimates of log p(x) for N examples, in nats.

    Attributes:
        log_likelihood: the estimates, [N].
        monte_carlo_error: standard error of each estimate, [N]; NaN for one sample.
        num_samples: importance samples or annealing chains of each example.
    """

    log_likelihood: np.ndarray
    monte_carlo_error: np.ndarray
    num_samples: int

    @property
    def mean(self) -> float:
        return float(np.mean(self.log_likelihood))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over examples; NaN for one example."""
        count = len(self.log_likelihood)
        return (
            float(np.std(self.log_likelihood, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        )

    @property
    def mean_monte_carlo_error(self) -> float:
        """The part of the mean's standard error that is due to the finite number of samples."""
        squares = np.square(self.monte_carlo_error)
        return float(np.sqrt(np.sum(squares)) / len(squares))


def bits_per_dimension(
    log_likelihood: np.ndarray, example_shape: int | tuple[int, ...]
) -> np.ndarray:
    """Return -log2 p(x), divided by the number of values in an example, for a discrete likelihood.

    Args:
        log_likelihood: log p(x), in nats.
        example_shape: shape of an example, or its number of values.
    """
    return -np.asarray(log_likelihood) / (math.log(2) * math.prod(np.atleast_1d(example_shape)))
