"""PNG, JPEG, BMP and GIF files as pictures, read and written by Pillow."""

import contextlib
import dataclasses
import io
import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from dvae_tf.kinds.image import deep_png, formats
from dvae_tf.kinds.image.picture import Header, Picture, turned
from dvae_tf.streamed import DatasetError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF")  # MPO: a JPEG with further pictures behind it
_GREY_MODES = ("1", "L", "LA", "I", "I;16")
_ORIENTATION = 0x0112  # EXIF tag
# Segments of a JPEG that Pillow writes from `info`.
_QUALITY = {"quality": 97, "subsampling": 0}


@dataclasses.dataclass(frozen=True)
class Form:
    """How to write such a file again.

    Attributes:
        format: Pillow's name of the format.
        saving: arguments for saving it: colour profile, EXIF data, resolution, times of frames.
        chunks: chunks of a PNG file that are taken over: name -> content.
    """

    format: str
    saving: Mapping[str, Any]
    chunks: Mapping[bytes, bytes]


def header(path: str | os.PathLike) -> Header:
    """Return shape and type, without decoding a pixel; errors as `read`."""
    with _opened(path) as (image, file):
        chunks = deep_png.read_chunks(file) if image.format == "PNG" else {}
        is_deep = bool(chunks) and deep_png.is_deep(chunks[b"IHDR"])
        width, height = image.size
        if formats.orientation_of(image) >= 5:
            width, height = height, width
        is_grey = image.mode in _GREY_MODES and image.format != "GIF"
        if is_deep:
            is_grey = deep_png.samples(chunks[b"IHDR"]) < 3
        pages = getattr(image, "n_frames", 1) if image.format == "GIF" else 1
        dtype = np.dtype(np.uint16 if is_deep else np.uint8)
        return Header((pages, height, width, 1 if is_grey else 3), dtype)


def read(path: str | os.PathLike) -> Picture:
    """Read a picture; a palette becomes RGB, and one to four bits become eight.

    Raises:
        DatasetError: if it is in another format, has inks (CMYK), or is an animated PNG.
        Exception: any of Pillow's, if the file is damaged.
    """
    with _opened(path) as (image, file):
        orientation = formats.orientation_of(image)
        chunks = deep_png.read_chunks(file) if image.format == "PNG" else {}
        # Chunks hold what Pillow would write of a PNG. Its own way rounds, or lacks them.
        form = Form(
            "JPEG" if image.format == "MPO" else image.format,
            _saving(image),
            {kind: chunks[kind] for kind in deep_png.KEPT if kind in chunks},
        )
        if image.format == "GIF":
            times, samples = _frames(image)
            form = dataclasses.replace(form, saving={**form.saving, "duration": times})
        elif chunks and deep_png.is_deep(chunks[b"IHDR"]):
            samples = _with_key(deep_png.decode(file, chunks[b"IHDR"]), chunks)[None]
        else:
            samples = _decoded(image)[None]
    samples = turned(samples, orientation)
    channels = 1 if samples.shape[-1] < 3 else 3
    alpha = samples[..., channels:] if samples.shape[-1] > channels else None
    return Picture(np.ascontiguousarray(samples[..., :channels]), alpha, form)


def write(target: str | os.PathLike, picture: Picture) -> None:
    """Write a picture in its format.

    A palette is written as RGB, except in GIF files. Those get a palette for each frame: exact up to
    256 colours, as all grey frames have, otherwise the best one that median cut finds. Pillow joins
    equal frames that follow each other. JPEG files have quality 97 without subsampling.
    """
    form, samples = picture.form, picture.pages
    if form.format == "GIF":
        return _write_gif(target, picture)
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha], axis=-1)
    (samples,) = samples
    if form.format == "PNG" and samples.dtype == np.uint16:
        content = deep_png.encode(samples)
    elif form.format == "BMP" and samples.shape[-1] == 4:
        content = _bmp_with_alpha(samples, form.saving.get("dpi", (0, 0)))
    else:
        buffer = io.BytesIO()
        image = PIL.Image.fromarray(samples if samples.shape[-1] > 1 else samples[..., 0])
        image.save(buffer, form.format, **form.saving)
        content = buffer.getvalue()
    if form.format == "PNG":
        content = deep_png.with_chunks(content, form.chunks)
    with open(target, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[Any, BinaryIO]]:
    """Open an image, of which Pillow reads the header; refuse what cannot be applied."""
    # Pillow warns of large images, and refuses those above 179 million pixels.
    with warnings.catch_warnings(), open(path, "rb") as file:
        warnings.simplefilter("ignore")
        try:
            image = PIL.Image.open(file)
        except PIL.Image.DecompressionBombError as error:
            limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 10**6
            raise DatasetError(
                f"{os.fspath(path)} must have up to {limit} million pixels in this format. "
                "Convert it to TIFF, which has no such limit."
            ) from error
        refused, remedy = _refused(image)
        if refused:
            raise DatasetError(
                f"{os.fspath(path)} must be a PNG, JPEG, BMP, GIF, TIFF or .npy file in grey or RGB. "
                f"Received: {refused}. {remedy}"
            )
        yield image, file


def _refused(image: PIL.Image.Image) -> tuple[str, str]:
    """Return what cannot be applied, and the remedy; empty words if there is nothing."""
    if image.format not in _FORMATS:
        return f"{image.format} by its content", "Convert it."
    if image.mode == "CMYK":
        return "inks (CMYK)", "Convert it to sRGB."
    if image.format == "PNG" and getattr(image, "is_animated", False):
        return "an animated PNG", "Save its frames as a TIFF stack, or as files."
    return "", ""


def _saving(image: PIL.Image.Image) -> dict[str, Any]:
    """Return arguments for saving such a file: everything but pixels, and what `chunks` hold."""
    saving: dict[str, Any] = {}
    if image.format == "GIF":
        return {"loop": image.info["loop"]} if "loop" in image.info else {}
    if image.format in ("JPEG", "MPO"):
        saving |= _QUALITY
        if profile := image.info.get("icc_profile"):
            saving["icc_profile"] = profile
    if image.format != "PNG" and "dpi" in image.info:
        saving["dpi"] = tuple(float(each) for each in image.info["dpi"])
    if image.format == "JPEG" and image.info.get("jfif_unit") == 0:
        saving.pop("dpi", None)
    with contextlib.suppress(Exception):  # Pillow raises many types on damaged EXIF data
        exif = PIL.Image.Image.getexif(image)
        exif.pop(_ORIENTATION, None)
        if len(exif):
            saving["exif"] = exif.tobytes()
    return saving


def _decoded(image: PIL.Image.Image) -> np.ndarray:
    """Decode 8 bits: uint8 [H, W, 1 to 4]."""
    has_alpha = image.mode in ("LA", "RGBA") or "transparency" in image.info
    mode = ("L" if image.mode in _GREY_MODES else "RGB") + "A" * has_alpha
    if image.mode == "P" and has_alpha:
        image = image.convert("RGBA")
    samples = np.array(image.convert(mode))
    return samples.reshape(*samples.shape[:2], -1)


def _with_key(samples: np.ndarray, chunks: Mapping[bytes, bytes]) -> np.ndarray:
    """Add the alpha channel of a deep PNG that names one colour as transparent."""
    if b"tRNS" not in chunks or samples.shape[-1] not in (1, 3):
        return samples
    key = struct.unpack(f">{samples.shape[-1]}H", chunks[b"tRNS"][: 2 * samples.shape[-1]])
    is_opaque = (samples != np.array(key, np.uint16)).any(axis=-1, keepdims=True)
    return np.concatenate([samples, is_opaque.astype(np.uint16) * 65535], axis=-1)


def _frames(image: Any) -> tuple[list[int], np.ndarray]:
    """Return the time of each frame in milliseconds, and uint8 [P, H, W, 3 or 4]."""
    times, frames = [], []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        times.append(int(image.info.get("duration", 0)))
        frames.append(np.array(image.convert("RGBA")))
    samples = np.stack(frames)
    return times, samples[..., :3] if (samples[..., 3] == 255).all() else samples


def _write_gif(target: str | os.PathLike, picture: Picture) -> None:
    alphas = [None] * len(picture.pages) if picture.alpha is None else picture.alpha
    first, *others = (_with_palette(*pair) for pair in zip(picture.pages, alphas, strict=True))
    options = dict(picture.form.saving)
    if picture.alpha is not None:
        options |= {"transparency": 255, "disposal": 2}
    first.save(target, "GIF", save_all=True, append_images=others, optimize=False, **options)


def _with_palette(colours: np.ndarray, alpha: np.ndarray | None) -> PIL.Image.Image:
    """Return colours uint8 [H, W, 3] with a palette, whose entry 255 is for transparent pixels."""
    most = 256 if alpha is None else 255
    height, width, _ = colours.shape
    code = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    distinct, indices = np.unique(code.reshape(-1), return_inverse=True)
    if len(distinct) <= most:
        palette = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=-1)
        indices = indices.reshape(height, width).astype(np.uint8)
    else:
        image = PIL.Image.fromarray(colours).quantize(
            most, method=PIL.Image.Quantize.MEDIANCUT, dither=PIL.Image.Dither.NONE
        )
        palette, indices = np.array(image.getpalette()).reshape(-1, 3), np.array(image)
    if alpha is not None:
        indices = np.where(alpha[..., 0] < 128, 255, indices).astype(np.uint8)
    entries = np.zeros((256, 3), np.uint8)
    entries[: len(palette)] = palette
    result = PIL.Image.fromarray(indices)
    result.putpalette(entries.tobytes())
    return result


def _bmp_with_alpha(samples: np.ndarray, dpi: tuple[float, float]) -> bytes:
    """Return a BMP file of uint8 [H, W, 4], whose header (BITMAPV4HEADER) says where alpha is."""
    height, width, _ = samples.shape
    body = samples[::-1, :, [2, 1, 0, 3]].tobytes()
    across, down = (round(each / 0.0254) for each in dpi)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(body), across, down, 0, 0)
    head += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 122) + head + body
