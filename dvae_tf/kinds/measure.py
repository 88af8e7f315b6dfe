"""A measure of denoising: a function, and how tables and figures write its values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A function of (clean, other) to one value for each example, [N].

    Attributes:
        function: what is called; arrays in, an array out.
        label: its name in tables and on axes.
        unit: of its values; empty where there is none.
        digits: after the decimal point.
        is_error: whether smaller is better.
        note: a sentence on how it is defined; may be empty.
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
    """Make a `Measure` of the function that follows; a decorator."""
    return lambda function: Measure(function, label, **kwargs)
