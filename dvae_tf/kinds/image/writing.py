"""Pictures into files of the format they came from: written completely, or not at all."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np

from dvae_tf import files
from dvae_tf.kinds.image import npy, raster, tiff
from dvae_tf.kinds.image.picture import Picture

_FORMATS: dict[type, ModuleType] = {
    raster.Form: raster,
    tiff.Form: tiff,
    npy.Form: npy,
}


def write(path: str | os.PathLike, picture: Picture) -> None:
    """Write a picture as the file it was read from: format, size, type, channels and tags.

    What cannot be the same is said in the `write` of each format: palettes, bits below eight, JPEG.
    An existing file is replaced; it stays as it is if writing fails.

    Raises:
        OSError: if the file cannot be written.
    """
    with files.appearing(Path(path)) as unfinished:
        _FORMATS[type(picture.form)].write(unfinished, picture)


def write_floats(path: str | os.PathLike, pages: np.ndarray, *, like: Picture) -> None:
    """Write values of any scale, such as standard deviations, as a TIFF file of float32.

    Args:
        path: the file, which it replaces.
        pages: [P, H, W, C].
        like: a picture whose resolution the file gets, if that is a TIFF, too.
    """
    form = tiff.plain_form(pages.shape[-1], like.form if isinstance(like.form, tiff.Form) else None)
    with files.appearing(Path(path)) as unfinished:
        tiff.write(unfinished, Picture(pages.astype(np.float32, copy=False), None, form))
