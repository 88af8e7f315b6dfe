"""The radially averaged power spectrum: how sharp are images?"""

import numpy as np


def radial_power(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of images at each spatial frequency, averaged over directions and channels.

    The mean of each channel is subtracted, and a Hann window takes off the borders. The power is
    |FFT(w x)|^2 / sum w^2: white noise of variance v has power v at all frequencies but the lowest,
    which loses a quarter with the mean. Frequencies are in rings of one cycle per shorter side, up to
    the 0.5 cycles per pixel of the finest stripes.

    Args:
        images: [N, H, W, C], both sides at least 4.

    Returns:
        The mean frequency of each ring in cycles per pixel, [K], and the power [N, K], with
        K = min(H, W) // 2. The first ring is that of one cycle per side.

    Raises:
        ValueError: if the images are smaller or have another rank.
    """
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or min(images.shape[1:3]) < 4:
        raise ValueError(
            "`images` must have the shape [N, H, W, C], with sides of at least 4. "
            f"Received: an array of shape {images.shape}."
        )
    height, width = images.shape[1:3]
    window = np.outer(_hann(height), _hann(width))[..., np.newaxis]
    weighted_mean = np.sum(window * images, axis=(1, 2), keepdims=True) / np.sum(window)
    spectrum = np.fft.fft2(window * (images - weighted_mean), axes=(1, 2))
    power = np.mean(np.square(np.abs(spectrum)), axis=-1) / np.sum(np.square(window))  # [N, H, W]

    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.fftfreq(width))
    shorter = min(height, width)
    ring = np.rint(frequency * shorter).astype(int)  # [H, W]; 0 is the mean
    rings = range(1, shorter // 2 + 1)
    frequencies = np.array([frequency[ring == k].mean() for k in rings])
    return frequencies, np.stack([power[:, ring == k].mean(axis=1) for k in rings], axis=-1)


def _hann(n: int) -> np.ndarray:
    """Return the Hann window at the midpoints of n equal parts."""
    return np.square(np.sin(np.pi * (np.arange(n) + 0.5) / n))
