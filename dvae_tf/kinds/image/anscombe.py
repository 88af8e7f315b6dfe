"""The generalised Anscombe transformation, which makes the variance of photon noise constant."""

import numpy as np

# Its value at no photons, where the closed form of the inverse is exactly 0.
_LEAST = 2 * np.sqrt(3 / 8)


def stabilized(y: np.ndarray, gain: float, offset: float, read_noise: float) -> np.ndarray:
    """Return values whose noise has a standard deviation of about 1.

        D = 2 sqrt(max(n + 3/8 + sigma^2, 0)),   n = (y - offset) / gain,   sigma = read_noise / gain

    Source: Makitalo and Foi (2013), doi:10.1109/TIP.2012.2202675.

    Args:
        y: observed values, any shape.
        gain: the value of one photon; positive.
        offset: the value of a pixel without light.
        read_noise: standard deviation of the noise of such a pixel.
    """
    photons = (np.asarray(y, np.float64) - offset) / gain
    return 2 * np.sqrt(np.maximum(photons + 3 / 8 + (read_noise / gain) ** 2, 0))


def unbiased_inverse(d: np.ndarray, gain: float, offset: float, read_noise: float) -> np.ndarray:
    """Return the signal s for which `stabilized` values of y have the mean `d`.

    The algebraic inverse would be biased, because a square root of a mean is not a mean of square
    roots. The closed form is

        n = D^2/4 + sqrt(3/2)/(4 D) - 11/(8 D^2) + 5 sqrt(3/2)/(8 D^3) - 1/8 - sigma^2,

    at least 0, and s = offset + gain n. Sources: Makitalo and Foi (2011), doi:10.1109/TIP.2011.2121085,
    and for sigma > 0 (2013), doi:10.1109/TIP.2012.2202675.
    """
    d = np.maximum(d, _LEAST)
    root = np.sqrt(3 / 2)
    photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return offset + gain * np.maximum(photons - (read_noise / gain) ** 2, 0)
