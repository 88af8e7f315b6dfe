"""Pixels at the ends of the scale, where noise was clipped."""

import numpy as np


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
