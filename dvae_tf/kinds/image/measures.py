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


@measure(
    "scale-invariant PSNR",
    unit="dB",
    digits=1,
    note="Scale-invariant PSNR fits the best gain and offset first; its peak is the range of the clean "
    "image.",
)
def scale_invariant_psnr(clean: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the PSNR of each image after the best gain and offset, in dB: [N].

        10 log10( (max x - min x)^2 / mean (x - a y - b)^2 ),   a, b by least squares.

    Microscopes and cameras differ from a clean image by a gain and an offset, which plain PSNR counts
    as errors. Nothing is clipped. A constant clean image has NaN; errors of rounding to 8 bits of the
    range, 58.9 dB, are the limit. Source: `scale_invariant_psnr` of CAREamics, after Weigert et al.
    (2018), doi:10.1038/s41592-018-0216-7.
    """
    x = np.asarray(clean, np.float64).reshape(len(clean), -1)
    y = np.asarray(other, np.float64).reshape(len(clean), -1)
    peak = np.ptp(x, axis=1)
    x, y = (z - z.mean(axis=1, keepdims=True) for z in (x, y))
    power = np.sum(y * y, axis=1)
    gain = np.sum(x * y, axis=1) / np.where(power > 0, power, 1)
    error = np.mean(np.square(x - gain[:, np.newaxis] * y), axis=1)
    is_constant = peak == 0
    relative = error / np.square(np.where(is_constant, 1, peak))
    ratio = 1 / np.maximum(relative, _MIN_SQUARED_ERROR)
    return np.where(is_constant, np.nan, 10 * np.log10(ratio))


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
