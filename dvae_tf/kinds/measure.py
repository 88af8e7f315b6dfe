"""Measures of denoising: a function, and how to print its values in tables and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A function of (clean, other) that returns one value for each example, [N].

    Attributes:
        function: takes and returns arrays.
        label: name in tables and on axes.
        unit: unit of its values; may be empty.
        digits: number of digits after the decimal point.
        is_error: whether smaller is better.
        note: a sentence on its definition; may be empty.
    """

    function: Callable[[Any, Any], np.ndarray]
    label: str
    unit: str = ""
    digits: int = 3
    is_error: bool = False
    note: str = ""

    def __call__(self, clean, other) -> np.ndarray:
        return self.function(clean, other)

    @property
    def axis(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def measure(label: str, **kwargs):
    """Decorate a function to make it a `Measure`; `kwargs` are the other attributes."""
    return lambda function: Measure(function, label, **kwargs)
