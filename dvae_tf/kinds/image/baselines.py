"""Classical denoisers from scikit-image, each given the true strength of the noise."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage import filters, morphology, restoration


def median(image: np.ndarray, sigma: float) -> np.ndarray:
    """Median over a 3 x 3 neighbourhood of every channel."""
    footprint = morphology.footprint_rectangle((3, 3))
    channels = [filters.median(image[..., c], footprint) for c in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def total_variation(image: np.ndarray, sigma: float) -> np.ndarray:
    """Chambolle's total variation (2004), weighted by the strength of the noise."""
    if sigma <= 0:
        return image
    return restoration.denoise_tv_chambolle(image, weight=sigma, channel_axis=-1)


def non_local_means(image: np.ndarray, sigma: float) -> np.ndarray:
    """Buades et al. (2005), with 5 x 5 patches and a cut-off of 0.8 sigma."""
    if sigma <= 0:
        return image
    smooth = restoration.denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, channel_axis=-1
    )
    return smooth.reshape(image.shape)  # it drops a single channel


def wavelet(image: np.ndarray, sigma: float) -> np.ndarray:
    """BayesShrink soft thresholding of Chang et al. (2000)."""
    if sigma <= 0:
        return image
    with warnings.catch_warnings():
        # On images of a few pixels every coefficient is at the boundary: that is as it is.
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
    """One of `BASELINES`, for batches, with its name in tables.

    Called with (noisy [N, H, W, C], sigma=...), it returns estimates, as `denoise`.
    """

    name: str
    label: str

    def __call__(self, noisy: np.ndarray, *, sigma: float) -> np.ndarray:
        return denoise(self.name, noisy, sigma=sigma)


_LABELS = {"non_local_means": "non-local means"}


def denoisers() -> dict[str, Callable[..., np.ndarray]]:
    """Return all of them: name -> function of (noisy [N, H, W, C], sigma=...) to estimates."""
    return {name: Baseline(name, _LABELS.get(name, name.replace("_", " "))) for name in BASELINES}


def denoise(name: str, noisy: np.ndarray, *, sigma: float) -> np.ndarray:
    """Denoise images [N, H, W, C] one by one.

    Args:
        name: one of `BASELINES`.
        noisy: images on the [0, 1] scale; noise may lead outside.
        sigma: standard deviation of the noise on that scale; for noise that is not Gaussian, the
            root mean square of what it adds.
    """
    return np.stack([BASELINES[name](image, sigma) for image in noisy.astype(np.float64)])
