"""A picture as it is in its file: pages in the file's own type, and what writing it again needs."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np


class Header(NamedTuple):
    """What the header of a file says of its picture.

    Attributes:
        shape: (pages, height, width, channels); upright, and without the alpha channel.
        dtype: type of `Picture.pages`.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """The content of a picture's file.

    Attributes:
        pages: [P, H, W, C] in the file's own type, upright. Black-and-white files of one bit have
            uint8 values 0 and 255.
        alpha: [P, H, W, 1] of the same type, or None if the file has no transparency. Colours that
            are premultiplied with it in a TIFF file stay as they are.
        form: format, layout, resolution and colour profile, which `writing.write` takes up again.
    """

    pages: np.ndarray
    alpha: np.ndarray | None
    form: Any

    @property
    def header(self) -> Header:
        """Shape and type."""
        return Header(self.pages.shape, self.pages.dtype)

    def with_pages(self, pages: np.ndarray) -> "Picture":
        """Return the picture with other values, for the same file.

        Raises:
            ValueError: if shape or type differ.
        """
        if (pages.shape, pages.dtype) != (self.pages.shape, self.pages.dtype):
            raise ValueError(
                f"`pages` must be {self.pages.dtype} {self.pages.shape}, as the picture's. "
                f"Received: {pages.dtype} {pages.shape}. Convert them."
            )
        return dataclasses.replace(self, pages=pages)


def turned(pages: np.ndarray, orientation: int) -> np.ndarray:
    """Return pages [P, H, W, C] upright; `orientation` is EXIF's, from 1, which is upright, to 8."""
    if orientation >= 5:  # rows and columns are exchanged
        pages = pages.swapaxes(1, 2)
    if orientation in (3, 4, 7, 8):
        pages = pages[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pages = pages[:, :, ::-1]
    return np.ascontiguousarray(pages)
