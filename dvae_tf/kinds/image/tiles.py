"""Pictures in overlapping tiles, so that a network sees a part at a time and the result is the same.

A convolutional network's output at a pixel depends on the input within its receptive field, and on
where the pixel lies in the grid of its strides. So every window

- has at least `overlap` pixels around what is kept of it, except at the picture's own border,
- begins at multiples of `multiple`, as the picture itself does, and
- has the same size, so that a graph is built only once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Box(NamedTuple):
    """A rectangle of pixels, in coordinates of the padded picture; the ends are not in it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices of rows and of columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Tile(NamedTuple):
    """A part of a picture.

    Attributes:
        window: what the network sees.
        output: what is kept of its result. The outputs of all tiles cover every pixel once.
    """

    window: Box
    output: Box


class Plan(NamedTuple):
    """How a picture is divided.

    Attributes:
        height, width: size of the picture.
        padded: its size after padding to the network's multiple.
        tiles: from left to right, then down.
    """

    height: int
    width: int
    padded: tuple[int, int]
    tiles: Sequence[Tile]


def smallest(overlap: int, multiple: int) -> int:
    """Return the least side of a tile: a multiple beside the overlap on both sides."""
    return 2 * _rounded_up(overlap, multiple) + multiple


def plan(height: int, width: int, *, tile: int | None, overlap: int, multiple: int) -> Plan:
    """Divide a picture into tiles.

    Args:
        height, width: size of the picture, at least 1 x 1.
        tile: side of the square that a network sees at a time, overlap included; it is rounded down
            to a multiple. None takes the complete picture.
        overlap: radius of the network's receptive field, in pixels.
        multiple: what height and width must be multiples of: the product of the network's strides.

    Raises:
        ValueError: if `tile` is too small for the overlap.
    """
    overlap = _rounded_up(overlap, multiple)
    padded = _rounded_up(height, multiple), _rounded_up(width, multiple)
    if tile is None:
        tile = max(padded)
    least = 2 * overlap + multiple
    if tile < min(least, max(padded)):
        raise ValueError(
            f"`tile` must be at least {least} for this model, whose receptive field reaches "
            f"{overlap} pixels. Received: {tile}. Choose {least} or more."
        )
    side = max(tile // multiple * multiple, multiple)
    rows, columns = (_intervals(size, side, overlap) for size in padded)
    found = [
        Tile(Box(r[0], c[0], r[1], c[1]), Box(r[2], c[2], r[3], c[3]))
        for r in rows
        for c in columns
    ]
    return Plan(height, width, padded, found)


def choose(available: int, bytes_per_pixel: float, *, overlap: int, multiple: int) -> int:
    """Return the largest side of a tile for the memory, or the least one that works at all.

    Args:
        available: bytes of memory that a tile may take.
        bytes_per_pixel: bytes that each of its pixels takes.
        overlap, multiple: as in `plan`.
    """
    side = math.isqrt(max(int(available / bytes_per_pixel), 0))
    return max(side // multiple * multiple, smallest(overlap, multiple))


def pad(image: np.ndarray, padded: tuple[int, int]) -> np.ndarray:
    """Reflect an image [H, W, C] below and on the right, to the padded size."""
    height, width, _ = image.shape
    return np.pad(image, ((0, padded[0] - height), (0, padded[1] - width), (0, 0)), mode="reflect")


def apply(
    function: Callable[[np.ndarray, tuple[int, int]], Any],
    image: np.ndarray,
    plan: Plan,
    *,
    report: Callable[[int], None] = lambda pixels: None,
) -> Any:
    """Apply a function to each tile of an image, and return its results as if applied to the image.

    Args:
        function: a function of a window [1, h, w, C] and of its origin (row, column) in the picture.
            It returns an array [..., h, w, C'], or a tuple or dictionary of such arrays.
        image: [H, W, C].
        plan: from `plan`, for this size.
        report: called after each tile with the number of pixels that it added to the result.

    Returns:
        the same nest of arrays [..., H, W, C'].
    """
    image = pad(image, plan.padded)
    result: dict[Any, np.ndarray] = {}
    kind: Any = None
    for window, output in plan.tiles:
        part = function(image[window.slices][None], (window.top, window.left))
        kind, arrays = _opened(part)
        inner = (
            slice(output.top - window.top, output.bottom - window.top),
            slice(output.left - window.left, output.right - window.left),
        )
        for name, values in arrays.items():
            if name not in result:
                shape = (*values.shape[:-3], plan.height, plan.width, values.shape[-1])
                result[name] = np.empty(shape, values.dtype)
            # The padding is cropped: slices end where the picture does.
            place = result[name][(..., *output.slices, slice(None))]
            rows, columns = place.shape[-3:-1]
            place[...] = values[(..., *inner, slice(None))][..., :rows, :columns, :]
        report(
            max(min(output.bottom, plan.height) - output.top, 0)
            * max(min(output.right, plan.width) - output.left, 0)
        )
    return kind(result)


def _opened(part: Any) -> tuple[Callable[[dict], Any], dict[Any, np.ndarray]]:
    """Return how to close a nest of arrays again, and its arrays."""
    if isinstance(part, Mapping):
        return dict, {name: np.asarray(values) for name, values in part.items()}
    if isinstance(part, tuple):
        rebuild = type(part)._make if hasattr(part, "_make") else type(part)  # type: ignore[attr-defined]
        return lambda found: rebuild(found.values()), dict(enumerate(map(np.asarray, part)))
    return lambda found: found[0], {0: np.asarray(part)}


def _intervals(size: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Divide an axis: (begin and end of the window, begin and end of the output), in order."""
    side = min(side, size)
    found, done, start = [], 0, 0
    while done < size:
        # The last window ends with the picture: it has the size of the others, and more overlap.
        start = min(start, size - side)
        end = start + side
        kept = size if end == size else end - overlap
        found.append((start, end, done, kept))
        done, start = kept, kept - overlap
    return found


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
