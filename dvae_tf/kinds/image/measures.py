"""Measures of denoised images, in NumPy: one value for each image."""

import numpy as np
import skimage.metrics

from dvae_tf.kinds.image import pixels
from dvae_tf.kinds.measure import measure

# The mean squared error of rounding to 8 bits. A smaller error is invisible, and without this limit
# a single image that the noise left alone would make the mean PSNR infinite.
_MIN_SQUARED_ERROR = 1 / (12 * pixels.WHITE**2)


@measure("PSNR", unit="dB", digits=1, note="PSNR is for peak 1.")
def psnr(clean: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each image, -10 log10(MSE) for peak 1, in dB: [N].

    `other` is clipped to [0, 1] first. The PSNR is at most 58.9 dB, that of rounding to 8 bits.
    """
    squares = np.square(np.clip(other, 0, 1) - clean, dtype=np.float64)
    error = squares.reshape(len(clean), -1).mean(axis=1)
    return -10 * np.log10(np.maximum(error, _MIN_SQUARED_ERROR))


@measure("SSIM", digits=3, note="SSIM is for data range 1.")
def ssim(clean: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each image for data range 1: [N], at most 1.

    `other` is clipped to [0, 1] first. The window is 7 x 7, or the largest odd one that fits.
    Images smaller than 3 x 3 have NaN. Source: Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    """
    side = min(7, *clean.shape[1:3])
    window = side if side % 2 else side - 1
    if window < 3:
        return np.full(len(clean), np.nan)
    return np.array(
        [
            skimage.metrics.structural_similarity(
                a, b, data_range=1.0, channel_axis=-1, win_size=window
            )
            for a, b in zip(clean, np.clip(other, 0, 1), strict=True)
        ]
    )
