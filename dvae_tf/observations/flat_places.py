"""Wavelet coefficients of images, and how flat the image is around each of them."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pywt
import scipy.ndimage

from dvae_tf.observations.saturation import at_clipped_levels, saturated

_WAVELET = pywt.Wavelet("db3")  # orthonormal; constant, linear and quadratic images have no details
_WRAPPED = _WAVELET.dec_len // 2 - 1  # coefficients at each border that see the opposite border
_WINDOW = 5  # side of the neighbourhood, in coefficients: 10 pixels
MIN_SIDE = 16  # pixels


@dataclass(frozen=True)
class Places:
    """Diagonal coefficients of the finest scale and their neighbourhoods, each array [n].

    In white noise of variance v all four bands of an orthonormal transform are white with variance v,
    and independent of each other. Whatever is chosen by `fine` and `coarse` has an unbiased `detail`.

    Attributes:
        mean: mean of the image around the place.
        detail: the diagonal coefficient d; in white noise of variance v its variance is v.
        fine: mean of the squared horizontal and vertical coefficients; its mean in noise is v.
        coarse: mean squared second difference of the scaling coefficients, divided by 6; likewise.
    """

    mean: np.ndarray
    detail: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, chosen) -> "Places":
        return Places(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def join(cls, parts: "Iterable[Places]") -> "Places":
        parts = list(parts)
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            )
        )


def places_of(plane: np.ndarray, *, num_shifts: int) -> Places:
    """Return the places of one channel of an image.

    Args:
        plane: [H, W], both at least `MIN_SIDE`; NaN is missing. Places near missing pixels are left
            out, and all places of an intensity at which more than 2 % of the pixels are clipped.
        num_shifts: the transform is taken of `num_shifts`^2 shifts of the image: 1 or 2.
    """
    missing = np.isnan(plane)
    clipped = saturated(plane)
    plane = np.where(missing, 0.0, plane)
    shifts = [
        (slice(i, None), slice(j, None)) for i in range(num_shifts) for j in range(num_shifts)
    ]
    return Places.join(_of_shift(plane[s], missing[s], clipped[s]) for s in shifts)


def _of_shift(plane: np.ndarray, missing: np.ndarray, clipped: np.ndarray) -> Places:
    even = tuple(slice(side // 2 * 2) for side in plane.shape)
    bands = pywt.dwt2(plane[even], _WAVELET, mode="periodization")
    inner = (slice(_WRAPPED, -_WRAPPED),) * 2
    scaling, horizontal, vertical, diagonal = (band[inner] for band in (bands[0], *bands[1]))
    bends = (np.square(_second_difference(scaling, axis)) for axis in (0, 1))
    mean = _local_mean(scaling / 2)
    is_missing = _local_mean(_halved(missing[even])[inner]) > 1e-6
    kept = ~is_missing & ~at_clipped_levels(mean, _halved(clipped[even])[inner])
    return Places(
        mean=mean[kept],
        detail=diagonal[kept],
        fine=_local_mean((np.square(horizontal) + np.square(vertical)) / 2)[kept],
        coarse=_local_mean(sum(bends) / 12)[kept],
    )


def _halved(x: np.ndarray) -> np.ndarray:
    """Return the mean of each 2 x 2 pixels."""
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))


def _second_difference(x: np.ndarray, axis: int) -> np.ndarray:
    """Return x[i - 1] - 2 x[i] + x[i + 1]; at the ends, that of the neighbour."""
    inner = np.diff(x, 2, axis=axis)
    return np.pad(inner, [(1, 1) if k == axis else (0, 0) for k in (0, 1)], mode="edge")


def _local_mean(x: np.ndarray) -> np.ndarray:
    return scipy.ndimage.uniform_filter(x, _WINDOW, mode="reflect")
