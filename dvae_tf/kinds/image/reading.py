"""Pictures from files of any format and size: numpy out, in the file's own type.

PNG, JPEG, BMP, GIF (all frames), TIFF (stacks, floats) and .npy files; content tells the format, not
the name. EXIF orientation is applied. Colour profiles are kept for the file that is written, not
applied: values stay as they are.
"""

import os
from types import ModuleType

import PIL

from dvae_tf.kinds.image import npy, raster, tiff
from dvae_tf.kinds.image.picture import Header, Picture
from dvae_tf.streamed import DatasetError, first_line

__all__ = ["SUFFIXES", "Header", "Picture", "header", "read"]

SUFFIXES = (*raster.SUFFIXES, *tiff.SUFFIXES, *npy.SUFFIXES)


def read(path: str | os.PathLike) -> Picture:
    """Read a picture with all its pages.

    Raises:
        DatasetError: if the file is damaged, or of a format or a layout that cannot be written again;
            one line with the remedy.
    """
    return _call(path, "read")


def header(path: str | os.PathLike) -> Header:
    """Return the shape (P, H, W, C) and the type of a picture, without decoding a pixel.

    Raises:
        DatasetError: if the header is damaged, or as `read`.
    """
    return _call(path, "header")


def _call(path: str | os.PathLike, name: str):
    """Call `name` of the format's module; whatever it raises of a damaged file names the file."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for a writer
            what = "a folder" if os.path.isdir(path) else "a pipe, a socket or a device"
            raise ValueError(what if os.path.exists(path) else "no such file")
        return getattr(_format(path), name)(path)
    except DatasetError:
        raise
    except Exception as error:  # Pillow, tifffile and NumPy raise many types on a damaged file
        is_unknown = isinstance(error, PIL.UnidentifiedImageError)
        reason = "content of another format" if is_unknown else first_line(error)
        raise DatasetError(
            f"{os.fspath(path)} must be a readable picture. Received: {reason}. Remove or repair it."
        ) from error


def _format(path: str | os.PathLike) -> ModuleType:
    with open(path, "rb") as file:
        start = file.read(6)
    if start[:4] in tiff.SIGNATURES:
        return tiff
    return npy if start == npy.SIGNATURE else raster
