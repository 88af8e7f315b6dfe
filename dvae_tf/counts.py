"""How many: the one check of every argument that counts something."""

import numpy as np


def is_count(value, least: int = 1) -> bool:
    """Whether a value is an integer, of Python or NumPy, of at least `least`."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and value >= least


def check(name: str, value, least: int = 1) -> None:
    """Refuse an argument that is not a count.

    Raises:
        ValueError: which says so in one line.
    """
    if not is_count(value, least):
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}."
        )
