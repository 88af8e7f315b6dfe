"""The check of every argument that counts something."""

import numpy as np


def is_count(value, least: int = 1) -> bool:
    """Return whether a value is an integer (Python's or NumPy's) of at least `least`."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and value >= least


def check(name: str, value, least: int = 1) -> None:
    """Refuse an argument that is not a count.

    Args:
        name: name of the argument, for the message.
        value: the argument.
        least: the smallest count allowed.

    Raises:
        ValueError: if the value is not an integer of at least `least`.
    """
    if not is_count(value, least):
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}."
        )
