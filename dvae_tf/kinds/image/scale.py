"""The scale of stored values: which of them are black and white, 0 and 1 for a model."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

_SAMPLED = 2**20  # values of a page that percentiles are taken from


@dataclasses.dataclass(frozen=True)
class Scale:
    """The linear map from stored values to the model's scale, on which `low` is 0 and `high` is 1.

    Args:
        low: stored value of black.
        high: stored value of white.

    Raises:
        ValueError: if they are not finite, or `high` is not above `low`.
    """

    low: float
    high: float

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                "`range` must be LO,HI with LO below HI, both finite. "
                f"Received: {self.low:.9g},{self.high:.9g}. Name the values of black and white."
            )

    @classmethod
    def of(cls, dtype) -> "Scale":
        """Return the scale of a type: 0 to the largest value of unsigned integers, 0 to 1 of floats.

        Raises:
            ValueError: for signed integers, whose black and white nobody knows.
        """
        dtype = np.dtype(dtype)
        if dtype.kind == "u":
            return cls(0.0, float(np.iinfo(dtype).max))
        if dtype.kind in "fb":
            return cls(0.0, 1.0)
        raise ValueError(
            f"`range` must be given for values of type {dtype}. Received: none. "
            "Name the values of black and white, LO,HI."
        )

    @classmethod
    def from_text(cls, text: str, images: Iterable[np.ndarray] = ()) -> "Scale":
        """Return the scale that a text names: "LO,HI", or "percentile:A,B" of images.

        Args:
            text: two stored values, or two percentiles from 0 to 100.
            images: stored values of any shapes; what is not finite is left out. At most 2**20 values
                of each image, evenly spread, are used.

        Raises:
            ValueError: if it is neither, or the percentiles are equal.
        """
        name, separator, numbers = text.rpartition(":")
        try:
            low, high = (float(number) for number in numbers.split(","))
            if separator and (name != "percentile" or not 0 <= low < high <= 100):
                raise ValueError
        except ValueError:
            raise ValueError(
                "`range` must be LO,HI, or percentile:A,B with 0 <= A < B <= 100. "
                f"Received: {text!r}. Write 0,4095 or percentile:1,99, for example."
            ) from None
        if not separator:
            return cls(low, high)
        values = np.concatenate([_spread(image) for image in images] or [np.zeros(0)])
        if not len(values):
            raise ValueError(
                f"`range` {text} needs images with finite values. Received: none. Write LO,HI."
            )
        black, white = np.percentile(values, [low, high])
        if black == white:
            raise ValueError(
                f"`range` {text} must span different values. Received: images in which both "
                f"percentiles are {black:.9g}. Write LO,HI."
            )
        return cls(float(black), float(white))

    def __str__(self) -> str:
        """Return the text that `from_text` reads as this scale."""
        return f"{self.low!r},{self.high!r}"

    def to_unit(self, pages: np.ndarray) -> np.ndarray:
        """Return stored values on the model's scale: float32. NaN stays, nothing is clipped."""
        is_exact = pages.dtype.itemsize <= 2 or pages.dtype == np.float32
        values: Any = pages.astype(np.float32 if is_exact else np.float64)
        if self.low:
            values -= values.dtype.type(self.low)
        if self.high - self.low != 1:
            values /= values.dtype.type(self.high - self.low)
        return values.astype(np.float32, copy=False)

    def from_unit(self, values: np.ndarray, dtype) -> np.ndarray:
        """Return values of the model's scale as stored ones; integers are rounded and clipped.

        Raises:
            ValueError: if NaN must become an integer.
        """
        dtype = np.dtype(dtype)
        is_exact = dtype.itemsize <= 2 or dtype == np.float32
        stored: Any = np.array(values, np.float32 if is_exact else np.float64)
        if self.high - self.low != 1:
            stored *= stored.dtype.type(self.high - self.low)
        if self.low:
            stored += stored.dtype.type(self.low)
        if dtype.kind == "f":
            return stored.astype(dtype, copy=False)
        if np.isnan(stored).any():
            raise ValueError(
                f"Values must be finite to be stored as {dtype}. Received: NaN. Store them as float32."
            )
        limits = np.iinfo(dtype)
        np.clip(np.rint(stored, out=stored), limits.min, limits.max, out=stored)
        return stored.astype(dtype)

    def saturated(self, pages: np.ndarray) -> float:
        """Return the share of values at the upper end: at `high`, or the largest of an integer type.

        A sensor that saturates cuts off the noise of such pixels, which a noise model does not know.
        """
        is_at_end = pages == self.high
        if pages.dtype.kind in "ui":
            is_at_end |= pages == np.iinfo(pages.dtype).max
        return float(is_at_end.mean()) if pages.size else 0.0


def _spread(image: np.ndarray) -> np.ndarray:
    """Return at most `_SAMPLED` finite values of an image, evenly spread."""
    values = np.asarray(image).reshape(-1)
    # An odd step: an even one may see one channel, or one column of a checkerboard, alone.
    step = -(-len(values) // _SAMPLED)
    values = values[:: step + (step % 2 == 0)].astype(np.float64)
    return values[np.isfinite(values)]
