"""The values of recorded images: their scale, and what is odd about them.

Whatever may be right but often is not (missing, saturated or constant images) is a warning that
names the files. What no model can use is an error.
"""

import math
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dvae_tf.kinds.image import pixels
from dvae_tf.kinds.image.scale import Scale
from dvae_tf.streamed import DatasetError

_STORED = (np.uint8, np.uint16, np.float32)  # types that models read as they are
_NAMED = 3  # most images that a message names
# Least share of saturated pixels of which is warned: in a few images one pixel always is the brightest.
_SATURATED = 1e-4


class Images(NamedTuple):
    """Images and their names in messages.

    Attributes:
        arrays: [H, W, C] each.
        names: a name for each, with its file.
    """

    arrays: list[np.ndarray]
    names: list[str]

    @classmethod
    def joined(cls, parts: Iterable["Images"]) -> "Images":
        arrays, names = [], []
        for part in parts:
            arrays.extend(part.arrays)
            names.extend(part.names)
        return cls(arrays, names)


def scale_of(text: str | None, images: Images) -> Scale | None:
    """Return the scale that a text names, with percentiles of these images; None for None.

    Raises:
        DatasetError: if the text is no range.
    """
    if text is None:
        return None
    try:
        return Scale.from_text(text, images.arrays)
    except ValueError as error:
        raise DatasetError(str(error)) from error


def scaled(images: Images, scale: Scale | None, *, is_noisy: bool) -> Images:
    """Return images as they are stored in memory, after checks and warnings.

    Args:
        images: images of any types.
        scale: the values that become 0 and 1; None takes the scale of each type.
        is_noisy: whether values may be missing and leave the range. Clean ones are clipped to a
            given range, with a warning.

    Returns:
        images of one type: uint8, uint16 or float32.

    Raises:
        DatasetError: if values have a type without a scale, or are not finite or out of range.
    """
    dtypes = {image.dtype for image in images.arrays}
    if scale is None and len(dtypes) == 1 and dtypes <= set(map(np.dtype, _STORED)):
        arrays = images.arrays
    else:
        arrays = [_scale(image, scale).to_unit(image) for image in images.arrays]
    stored = Images(arrays, images.names)
    _warn_of_constant(stored)
    if scale is None and dtypes == {np.dtype(np.uint16)}:
        _warn_of_unused_bits(stored)
    if is_noisy:
        _warn_of_saturated(images, scale)
        _check_noisy(stored)
        return stored
    return _check_clean(stored, scale)


def _scale(image: np.ndarray, scale: Scale | None) -> Scale:
    try:
        return Scale.of(image.dtype) if scale is None else scale
    except ValueError as error:
        raise DatasetError(str(error)) from error


def _check_noisy(images: Images) -> None:
    """Warn of missing values, and refuse infinite ones."""
    missing, count, total = [], 0, 0
    for image, name in zip(images.arrays, images.names, strict=True):
        if image.dtype.kind != "f":
            return
        if np.isinf(image).any():
            raise DatasetError(
                f"Pixels must be finite, or NaN where they are missing. Received: infinity in {name}. "
                "Replace it by NaN."
            )
        number = int(np.isnan(image).sum())
        count, total = count + number, total + image.size
        if number:
            missing.append(f"{name} ({number})")
    if missing:
        _warn(f"{count} of {total} values are NaN, and are left out: {_listed(missing)}")


def _check_clean(images: Images, scale: Scale | None) -> Images:
    """Refuse missing values, and those outside [0, 1]; clip these if the user gave the scale."""
    if images.arrays[0].dtype.kind != "f":
        return images
    clipped, count, outside = [], 0, 0
    for image, name in zip(images.arrays, images.names, strict=True):
        low, high = float(image.min()), float(image.max())  # NaN if any value is
        if not math.isfinite(high - low):
            raise DatasetError(
                f"Clean images must be finite. Received: NaN or infinity in {name}. Remove or repair "
                "it, or name the noise in it as `observation` if it is noisy."
            )
        if scale is None and (low < 0 or high > 1):
            raise DatasetError(
                f"Clean images must be floats in [0, 1]. Received: values from {low:.9g} to "
                f"{high:.9g} in {name}. Set `range`, for example to {_rounded(low)},{_rounded(high)}, "
                "or name the noise in them as `observation` if they are noisy."
            )
        outside += int(((image < 0) | (image > 1)).sum())
        count += image.size
        clipped.append(image if low >= 0 and high <= 1 else np.clip(image, 0, 1))
    if outside:
        _warn(f"{_percent(outside / count)} of the clean values leave the range {scale}: clipped")
    return Images(clipped, images.names)


def _warn_of_constant(images: Images) -> None:
    names = [
        name
        for image, name in zip(images.arrays, images.names, strict=True)
        if not (image.max() > image.min() or _varies(image))
    ]
    if names:
        _warn(f"{len(names)} of {len(images.names)} images are constant: {_listed(names)}")


def _varies(image: np.ndarray) -> bool:
    """Return whether an image with missing values has two different ones."""
    known = image[~np.isnan(image)]
    return bool(len(known)) and known.max() > known.min()


def _warn_of_saturated(images: Images, scale: Scale | None) -> None:
    """Warn of values at the upper end of the sensor, where noise is cut off.

    The upper end of integers is the greatest number of some bits, of floats it is that of their scale.
    """
    end = max(image.max(initial=0, where=~np.isnan(image)) for image in images.arrays)
    if images.arrays[0].dtype.kind == "f":
        is_end = end == (scale or Scale.of(float)).high
    else:
        is_end = end >= pixels.WHITE and int(end) & (int(end) + 1) == 0
    counts = [np.count_nonzero(image == end) for image in images.arrays]
    share = sum(counts) / sum(image.size for image in images.arrays)
    if is_end and share >= _SATURATED:
        _warn(
            f"{_percent(share)} of the noisy pixels are saturated at {end:.9g}, most of them in "
            f"{images.names[int(np.argmax(counts))]}: no model of noise knows them"
        )


def _warn_of_unused_bits(images: Images) -> None:
    """Warn if values of 16 bits are those of a camera of fewer."""
    greatest = max(int(image.max()) for image in images.arrays)
    bits = max(greatest.bit_length(), 8)
    if bits < 16:
        _warn(
            f"the 16-bit images reach {greatest} of 65535: if their camera has {bits} bits, set the "
            f"range to 0,{2**bits - 1}"
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _rounded(value: float) -> str:
    return f"{value:.3g}"
