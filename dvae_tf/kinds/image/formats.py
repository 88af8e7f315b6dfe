"""What an image file says of itself: its header is read before any pixel is decoded.

Whatever TensorFlow's decoder would ignore is applied here, or refused by name: palettes and
compression of BMP files, orientation, colour profiles, gamma, and more than 8 bits.
"""

import functools
import io
import os
import warnings
from collections.abc import Hashable
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageCms
from PIL.Image import Transpose

from dvae_tf.kinds.image import pixels
from dvae_tf.streamed import DatasetError, first_line

_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF")  # MPO: a JPEG with further pictures behind it
_GREY_MODES = ("1", "L", "LA")

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Of sRGB: x and y of white, red, green and blue (PNG specification, chunk cHRM).
_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        shape: (height, width, channels) of the decoded image: upright, without transparency.
        is_plain: whether TensorFlow decodes the file correctly; if not, `decode` does.
        form: equal for files that are decoded in the same way.
    """

    shape: tuple[int, int, int]
    is_plain: bool
    form: Hashable


def read(path: str | os.PathLike) -> Header:
    """Read the header of an image file.

    Raises:
        DatasetError: if it cannot be read, or the image is none of 8 bits in grey or RGB.
    """
    try:
        # Pillow warns of large images. All sizes are compared before an image is decoded.
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            image = PIL.Image.open(file)
            refused, remedy = _refused(image, file)
            orientation = orientation_of(image)
            profile = None if refused else _profile(image)
    except Exception as error:  # Pillow raises many types on a damaged file
        is_unknown = isinstance(error, PIL.UnidentifiedImageError)
        reason = "content of another format" if is_unknown else first_line(error)
        raise DatasetError(
            f"{os.fspath(path)} must be a readable image. Received: {reason}. Remove or repair it."
        ) from error
    if refused:
        raise DatasetError(
            f"{os.fspath(path)} must be a PNG, JPEG, BMP or GIF file of 8 bits in grey or RGB. "
            f"Received: {refused}. {remedy}"
        )
    is_grey = image.mode in _GREY_MODES and image.format != "GIF"
    width, height = image.size if orientation < 5 else reversed(image.size)
    is_plain = orientation == 1 and profile is None and image.format != "BMP"
    form = (image.format, image.mode, image.size, "transparency" in image.info)
    return Header((height, width, 1 if is_grey else 3), is_plain, (*form, orientation, profile))


def decode(path: str) -> np.ndarray:
    """Decode an image file, upright and in sRGB, without transparency: uint8 [H, W, 1 or 3].

    Raises:
        Exception: any of Pillow's, if the file is damaged.
    """
    with PIL.Image.open(path) as image:
        orientation, profile = orientation_of(image), _profile(image)
        is_grey = image.mode in _GREY_MODES
        # By way of RGBA a transparent pixel of a palette keeps its colour.
        colours = image.convert("L") if is_grey else image.convert("RGBA").convert("RGB")
    if profile is not None:
        colours = _in_srgb(colours, profile)
    if orientation in _UPRIGHT:
        colours = colours.transpose(_UPRIGHT[orientation])
    levels = np.asarray(colours)
    return levels.reshape(*levels.shape[:2], -1)[..., : 1 if is_grey else 3].copy()


def _refused(image: PIL.Image.Image, file: BinaryIO) -> tuple[str, str]:
    """Return what cannot be applied, and the remedy; empty words if there is nothing."""
    if image.format not in _FORMATS:
        return f"{image.format} by its content", "Convert it."
    to_srgb = "Convert it to sRGB."
    if image.mode == "CMYK":
        return "inks (CMYK)", to_srgb
    if image.format == "BMP":
        file.seek(14)
        header = file.read(124)
        # bV5CSType, if the header has it: a profile that is embedded or linked.
        if int.from_bytes(header[:4], "little") >= 108 and header[56:60] in (b"DEBM", b"KNIL"):
            return "a BMP file with a colour profile", to_srgb
    if image.format != "PNG":
        return "", ""
    chunks = _chunks(file)
    if chunks[b"IHDR"][8] > 8:
        return (
            f"{chunks[b'IHDR'][8]} bits a channel",
            "Convert it to 8 bits, or give all images as one .npy array of floats in [0, 1].",
        )
    if chunks.get(b"cICP", b"\1\x0d\0\1")[:2] != b"\1\x0d":  # the primaries and the curve of sRGB
        return "colours of another space than sRGB (cICP)", to_srgb
    if image.info.keys() & {"srgb", "icc_profile"}:  # they go before gamma and chromaticities
        return "", ""
    gamma = image.info.get("gamma", 1 / 2.2)
    if abs(2.2 * gamma - 1) > 0.05:  # like browsers, allow 5 %
        return f"gamma {gamma:g}, where that of sRGB is 0.45455", to_srgb
    corners = image.info.get("chromaticity", _CHROMATICITIES)
    if image.mode not in _GREY_MODES and not np.allclose(corners, _CHROMATICITIES, atol=0.005):
        return "primary colours other than those of sRGB (cHRM)", to_srgb
    return "", ""


def _chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Return the short chunks of a PNG file before its pixels: name -> content."""
    found: dict[bytes, bytes] = {}
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if length <= 64:
            found.setdefault(head[4:], file.read(length))
            file.seek(4, os.SEEK_CUR)  # checksum
        else:
            file.seek(length + 4, os.SEEK_CUR)
    return found


def orientation_of(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, which is upright, if there is none or it is damaged."""
    try:
        # Not PngImageFile.getexif, which decodes the pixels to look behind them.
        orientation = PIL.Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # Pillow raises many types on damaged EXIF data
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _profile(image: PIL.Image.Image) -> bytes | None:
    """Return the colour profile if it changes colours; viewers ignore one of another space."""
    profile = image.info.get("icc_profile")
    if profile and _changes_colours(profile, "GRAY" if image.mode in _GREY_MODES else "RGB"):
        return profile
    return None


@functools.lru_cache(maxsize=16)
def _changes_colours(profile: bytes, space: str) -> bool:
    """Return whether a profile for this colour space moves any grey level by more than two."""
    if PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip() != space:
        return False
    levels = np.linspace(0, pixels.WHITE, 18).astype(np.uint8)
    if space == "GRAY":
        some = PIL.Image.fromarray(levels[None])
    else:
        grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
        some = PIL.Image.fromarray(grid.reshape(len(levels), -1, 3))
    change = np.asarray(_in_srgb(some, profile), int) - np.asarray(some.convert("RGB"), int)
    return bool(np.abs(change).max() > 2)


def _in_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Return an image of mode L or RGB with this profile, in sRGB: mode RGB."""
    converted = PIL.ImageCms.profileToProfile(
        image,
        PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        PIL.ImageCms.createProfile("sRGB"),
        renderingIntent=PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert converted is not None  # for the type checker: only `inPlace=True` returns None
    return converted
