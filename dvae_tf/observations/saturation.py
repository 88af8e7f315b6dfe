"""Pixels at the ends of the scale, where noise was clipped."""

import numpy as np

_NUM_LEVELS = 100
_MAX_SHARE = 0.02


def saturated(image: np.ndarray) -> np.ndarray:
    """Return which values are clipped: those at the least or the largest value of the image.

    Noise of a fine scale reaches its least and its largest value once. An end counts as clipped if at
    least three values lie there and they are 0.01 % of the image. NaN is not clipped.

    Args:
        image: any shape, one image on any scale.

    Returns:
        bool, of the shape of `image`.
    """
    image = np.asarray(image)
    seen = image[~np.isnan(image)] if image.dtype.kind == "f" else image
    clipped = np.zeros(image.shape, bool)
    if seen.size:
        for end in (seen.min(), seen.max()):
            at_end = image == end
            if np.count_nonzero(at_end) >= max(3, 1e-4 * seen.size):
                clipped |= at_end
    return clipped


def at_clipped_levels(signal: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """Return where the signal has a level at which more than 2 % of the pixels are clipped.

    To leave out the clipped pixels alone would choose pixels by their noise, and so change its
    variance. Levels are 100 ranges of the signal that hold equal numbers of pixels.

    Args:
        signal: any shape.
        clipped: of the same shape: whether pixels are clipped, or which share of them.

    Returns:
        bool, of the shape of `signal`.
    """
    lost = np.zeros(signal.size, bool)
    shares = np.ravel(clipped)
    if shares.any():
        for level in np.array_split(np.argsort(signal, axis=None), _NUM_LEVELS):
            lost[level] = len(level) > 0 and shares[level].mean() > _MAX_SHARE
    return lost.reshape(signal.shape)
