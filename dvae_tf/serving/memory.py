"""Memory that is free, and that the C library still keeps from the system."""

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Give free memory back to the system, where glibc is the C library; do nothing elsewhere.

    By itself glibc gives back only the upper end of a heap. Requests of all sizes, which several
    threads read, leave holes below it, so that resident memory would grow for hours. This takes a
    tenth of a second at most, and other threads run meanwhile.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return None
    trim.argtypes = [ctypes.c_size_t]
    return trim
