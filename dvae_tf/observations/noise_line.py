"""A straight line through squared residuals: the variance of noise as a function of the signal."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats

from dvae_tf.observations.gaussian import Gaussian
from dvae_tf.observations.observation import Observation
from dvae_tf.observations.poisson_gaussian import PoissonGaussian

# Variances count as at least this share of their median: no dark corner decides the fit alone.
_LEAST_SHARE = 0.02
# A smaller relative change of the variance over 90 % of all signals is taken for none.
_LEAST_CHANGE = 0.1
# Squared residuals beyond this many standard deviations are clipped.
_MAX_DEVIATION = 3.0


@dataclass(frozen=True)
class NoiseLine:
    """variance = slope * signal + intercept."""

    slope: float
    intercept: float

    def variance(self, signal: np.ndarray) -> np.ndarray:
        """Return the variance at each signal, which is positive: see `_LEAST_SHARE`."""
        variance = self.slope * signal + self.intercept
        return np.maximum(variance, _LEAST_SHARE * max(np.median(variance), 1e-30))

    def as_observation(self, signal: np.ndarray, standard_error: float) -> Observation:
        """Return the observation with this line.

        Variances alone do not tell the offset from the read noise: a line above 0 at signal 0 has
        offset 0, one below has no read noise. If the slope is not positive, below three standard
        errors, or if the variance changes by less than 10 % over the signals, the noise is Gaussian.

        Args:
            signal: [n], signals of which the images consist.
            standard_error: of the slope.
        """
        variance = self.variance(signal)
        low, high = np.quantile(signal, [0.05, 0.95])
        change = self.slope * (high - low) / np.mean(variance)
        if change < _LEAST_CHANGE or self.slope < 3 * standard_error:
            weights = variance**-2
            return Gaussian(math.sqrt(np.sum(weights * variance) / np.sum(weights)))
        gain, intercept = float(self.slope), float(self.intercept)
        if intercept < 0:
            return PoissonGaussian(gain, -intercept / gain, 0.0)
        return PoissonGaussian(gain, 0.0, math.sqrt(intercept))


def step(line: NoiseLine, signal: np.ndarray, square: np.ndarray, *, instrument=None) -> NoiseLine:
    """Return the line through (signal, square), weighted by the last line's variances.

    Repeated, it maximises the likelihood of residuals r ~ N(0, slope signal + intercept),
    square = r^2. With an instrument z the equations are sum w(z) (square - line) (1, z) = 0: they are
    unbiased though `signal` is noisy and depends on `square`, if z does not.
    """
    z = signal if instrument is None else instrument
    weights = line.variance(z) ** -2.0
    weights /= weights.sum()
    mean_signal, mean_square = weights @ signal, weights @ square
    centred = weights * (z - weights @ z)
    spread = centred @ signal
    # Signals that are all equal tell nothing of the slope.
    slope = centred @ square / spread if spread > 1e-12 * (weights @ signal**2) else 0.0
    return NoiseLine(float(slope), float(mean_square - slope * mean_signal))


def robust_step(
    line: NoiseLine, signal: np.ndarray, square: np.ndarray, max_deviation: float = _MAX_DEVIATION
) -> NoiseLine:
    """Return `step` with squares clipped at c^2 variances, divided by E[min(eps^2, c^2)]."""
    limit = max_deviation**2
    clipped = np.minimum(square, limit * line.variance(signal))
    return step(line, signal, clipped / _clipped_square(max_deviation))


def _clipped_square(c: float) -> float:
    """Return E[min(eps^2, c^2)] for eps ~ N(0, 1)."""
    normal = scipy.stats.norm
    return 2 * normal.cdf(c) - 1 - 2 * c * normal.pdf(c) + 2 * c**2 * normal.sf(c)


def standard_error(
    line: NoiseLine, signal: np.ndarray, square: np.ndarray, *, instrument=None
) -> float:
    """Return the standard error of the slope of `step`, from the residuals of independent squares."""
    z = signal if instrument is None else instrument
    weights = line.variance(z) ** -2.0
    centred = weights * (z - weights @ z / weights.sum())
    residual = square - (line.slope * signal + line.intercept)
    spread = abs(centred @ signal)
    return float(np.linalg.norm(centred * residual) / spread) if spread > 0 else math.inf
