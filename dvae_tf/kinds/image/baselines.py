"""Classical denoisers from scikit-image; each is told the true strength of the noise."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage import filters, morphology, restoration

from dvae_tf.kinds.image import anscombe


def median(image: np.ndarray, sigma: float) -> np.ndarray:
    """Median over a 3 x 3 neighbourhood, in each channel."""
    footprint = morphology.footprint_rectangle((3, 3))
    channels = [filters.median(image[..., c], footprint) for c in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def total_variation(image: np.ndarray, sigma: float) -> np.ndarray:
    """Total variation (Chambolle 2004), with the strength of the noise as weight."""
    if sigma <= 0:
        return image
    return restoration.denoise_tv_chambolle(image, weight=sigma, channel_axis=-1)


def non_local_means(image: np.ndarray, sigma: float) -> np.ndarray:
    """Non-local means (Buades et al. 2005), with 5 x 5 patches and a cut-off of 0.8 sigma."""
    if sigma <= 0:
        return image
    smooth = restoration.denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, channel_axis=-1
    )
    return smooth.reshape(image.shape)  # scikit-image drops a single channel


def stabilized_non_local_means(
    image: np.ndarray, gain: float, offset: float, read_noise: float
) -> np.ndarray:
    """Non-local means of an image with photon noise, after `anscombe.stabilized`.

    Args:
        image: [H, W, C].
        gain: the value of one photon; positive.
        offset: the value of a pixel without light.
        read_noise: standard deviation of the noise of such a pixel.
    """
    smooth = non_local_means(anscombe.stabilized(image, gain, offset, read_noise), 1.0)
    return anscombe.unbiased_inverse(smooth, gain, offset, read_noise)


def wavelet(image: np.ndarray, sigma: float) -> np.ndarray:
    """Soft thresholding of wavelet coefficients by BayesShrink (Chang et al. 2000)."""
    if sigma <= 0:
        return image
    with warnings.catch_warnings():
        # In images of a few pixels every coefficient touches the boundary; the warning does not help.
        warnings.filterwarnings("ignore", "Level value of", UserWarning)
        return restoration.denoise_wavelet(image, sigma=sigma, channel_axis=-1)


BASELINES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "median": median,
    "total_variation": total_variation,
    "non_local_means": non_local_means,
    "wavelet": wavelet,
}


@dataclass(frozen=True)
class Baseline:
    """One of `BASELINES`, applied to batches.

    A call with (noisy [N, H, W, C], sigma=...) returns estimates, as `denoise` does.

    Attributes:
        name: key in `BASELINES`.
        label: name in tables.
    """

    name: str
    label: str

    def __call__(self, noisy: np.ndarray, *, sigma: float) -> np.ndarray:
        return denoise(self.name, noisy, sigma=sigma)


_LABELS = {"non_local_means": "non-local means"}


def denoisers() -> dict[str, Callable[..., np.ndarray]]:
    """Return all baselines, as `Kind.baselines` does: name -> function of (noisy, sigma=...)."""
    return {name: Baseline(name, _LABELS.get(name, name.replace("_", " "))) for name in BASELINES}


def denoise(name: str, noisy: np.ndarray, *, sigma: float) -> np.ndarray:
    """Denoise images [N, H, W, C] one by one.

    Args:
        name: one of `BASELINES`.
        noisy: images on the [0, 1] scale; noisy values may lie outside.
        sigma: standard deviation of the noise on that scale. For noise that is not Gaussian, the
            root mean square of what it adds.
    """
    return np.stack([BASELINES[name](image, sigma) for image in noisy.astype(np.float64)])
