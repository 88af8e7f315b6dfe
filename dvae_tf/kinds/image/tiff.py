"""TIFF files as pictures, read and written by tifffile: stacks, 16 bits, floats, ImageJ and OME.

All axes but Y, X and samples are pages, channels of ImageJ's and OME's included. Without the package
imagecodecs, compressions other than deflate and packed bits are read by Pillow where it can.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
import tifffile

from dvae_tf.kinds.image.picture import Header, Picture, turned
from dvae_tf.streamed import DatasetError

SUFFIXES = (".tif", ".tiff")
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BLACK, _WHITE, _RGB, _PALETTE, _YCBCR = 1, 0, 2, 3, 6  # photometric interpretations
_SAMPLES = {_BLACK: 1, _WHITE: 1, _RGB: 3, _YCBCR: 3}  # without extra samples
_ALPHA = (1, 2)  # extra samples that are transparency
_ORIENTATION = 274  # tag
_MAX_RATIO = {1: 1, 5: 3000, 8: 1100, 32946: 1100, 32773: 130}  # compression -> the most it can do
_TOO_LARGE = "a header of {} bytes of pixels, more than the file can hold"
# What the XML of OME files says of an image, and its writer takes up again.
_OME = ("PhysicalSize", "TimeIncrement")


@dataclasses.dataclass(frozen=True)
class Form:
    """How to write such a file again.

    Attributes:
        lead: sizes of the axes before Y and X.
        has_samples: whether an axis of samples follows; otherwise there is one sample.
        inverted: whether 0 is white in the file.
        options: arguments for `tifffile.imwrite`.
    """

    lead: tuple[int, ...]
    has_samples: bool
    inverted: bool
    options: Mapping[str, Any]


def plain_form(channels: int, like: Form | None) -> Form:
    """Return a form for pages [P, H, W, C] of floats, with the resolution of another file."""
    options: dict[str, Any] = {"photometric": "rgb" if channels == 3 else "minisblack"}
    options["metadata"] = None
    if channels > 1:
        options["planarconfig"] = "contig"
    for name in ("resolution", "resolutionunit", "byteorder"):
        if like is not None and name in like.options:
            options[name] = like.options[name]
    return Form((-1,), channels > 1, False, options)


def header(path: str | os.PathLike) -> Header:
    """Return shape and type, without decoding a pixel; errors as `read`."""
    with _opened(path) as file:
        series, page = _series(file, path)
        lead, height, width, samples = _sizes(series)
        if _orientation(page) >= 5:
            height, width = width, height
        channels = samples - (_alphas(page, samples) > 0)
        dtype = page.dtype.newbyteorder("=")
        if page.photometric == _PALETTE:
            channels, dtype = 3, np.dtype(np.uint8)
        elif dtype == np.bool_:
            dtype = np.dtype(np.uint8)
        return Header((int(np.prod(lead, dtype=int)), height, width, channels), dtype)


def read(path: str | os.PathLike) -> Picture:
    """Read a picture. A palette becomes RGB of 8 bits, and bits become 0 and 255.

    Raises:
        DatasetError: if its pages differ in size, its colours are others than grey and RGB, or
            imagecodecs is needed.
        Exception: any of tifffile's, if the file is damaged.
    """
    with _opened(path) as file:
        series, page = _series(file, path)
        lead, _, _, samples = _sizes(series)
        pages = _arranged(_values(path, series, page), series)
        orientation = _orientation(page)
        form = _form(file, series, page, lead)
        alphas = _alphas(page, samples)
        if page.photometric == _PALETTE:
            colours = np.asarray(page.colormap)  # [3, entries], uint16
            shift = 8 if colours.max() > 255 else 0  # some programs write 8 bits
            pages = np.moveaxis((colours >> shift).astype(np.uint8), 0, -1)[pages[..., 0]]
    if pages.dtype == np.bool_:
        pages = pages.astype(np.uint8) * 255
    if form.inverted:
        pages = np.iinfo(pages.dtype).max - pages
    pages = turned(pages, orientation)
    alpha = np.ascontiguousarray(pages[..., -1:]) if alphas else None
    return Picture(pages[..., : pages.shape[-1] - alphas], alpha, form)


def write(target: str | os.PathLike, picture: Picture) -> None:
    """Write a picture with the layout of its file: axes, byte order, tiles, resolution, metadata.

    Whatever was compressed is compressed by deflate, without loss.
    """
    form, pages = picture.form, picture.pages
    if form.inverted:
        pages = np.iinfo(pages.dtype).max - pages
    if picture.alpha is not None:
        pages = np.concatenate([pages, picture.alpha], axis=-1)
    if form.options.get("planarconfig") == "separate":
        pages = np.moveaxis(pages, -1, 1)
    elif not form.has_samples:
        pages = pages[..., 0]
    data = pages.reshape(*form.lead, *pages.shape[1:])
    with _reporting():
        tifffile.imwrite(target, np.ascontiguousarray(data), **form.options)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tifffile.TiffFile]:
    with _reporting(), tifffile.TiffFile(path) as file:
        yield file


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Raise what tifffile only logs as an error, such as missing pages; ignore its warnings."""
    found: list[str] = []

    class _Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                found.append(record.getMessage())

    logger, collector = logging.getLogger("tifffile"), _Collector()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
    if found:
        raise ValueError(found[0])


def _series(file: Any, path) -> tuple[Any, Any]:
    """Return the series of all pages, and its first page; refuse what cannot be a picture."""
    full = [s for s in file.series if not all(page is None or page.is_reduced for page in s.pages)]
    refused = ""
    if len(full) != 1:
        refused, remedy = "pages of several sizes or types", "Save each as a file of its own."
    else:
        series, page = full[0], full[0].keyframe
        if page.photometric not in (*_SAMPLES, _PALETTE):
            colours = getattr(page.photometric, "name", page.photometric)
            refused, remedy = f"colours of type {colours}", "Convert them to grey or RGB."
        elif series.dtype is None or series.dtype.kind not in "buif":
            refused, remedy = f"values of type {series.dtype}", "Convert them."
        elif not {"Y", "X"} <= set(series.axes):
            refused, remedy = f"axes {series.axes}", "Save it with axes Y and X."
    if refused:
        raise DatasetError(
            f"{os.fspath(path)} must hold pages of one size, in grey or RGB. Received: {refused}. "
            f"{remedy}"
        )
    most = _MAX_RATIO.get(int(page.compression))
    packed = series.size * page.bitspersample / 8
    if most is not None and packed > most * os.stat(path).st_size:
        raise ValueError(_TOO_LARGE.format(series.nbytes))
    return series, page


def _sizes(series: Any) -> tuple[tuple[int, ...], int, int, int]:
    """Return the sizes of the axes that are pages, the height, the width and the samples."""
    size = dict(zip(series.axes, series.shape, strict=True))
    lead = tuple(size[axis] for axis in series.axes if axis not in "YXS")
    return lead, size["Y"], size["X"], size.get("S", 1)


def _arranged(values: np.ndarray, series: Any) -> np.ndarray:
    """Return the values of a series as [P, H, W, samples]."""
    axes = [axis for axis in series.axes if axis not in "YXS"]
    order = [series.axes.index(axis) for axis in (*axes, "Y", "X", *("S" in series.axes) * "S")]
    lead, *sizes = _sizes(series)
    return values.transpose(order).reshape(int(np.prod(lead, dtype=int)), *sizes)


def _values(path, series: Any, page: Any) -> np.ndarray:
    """Decode all values of a series, in its shape and the machine's byte order."""
    try:
        values = series.asarray()
    except Exception as error:
        if "imagecodecs" not in str(error):
            raise
        values = _by_pillow(path, series, page)
        if values is None:
            method = getattr(page.compression, "name", page.compression)
            raise DatasetError(
                f"{os.fspath(path)} must be uncompressed, or compressed by deflate. Received: "
                f"{method} of {page.bitspersample} bits. Install imagecodecs, or convert it."
            ) from error
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _by_pillow(path, series: Any, page: Any) -> np.ndarray | None:
    """Decode a series by Pillow, or return None where that would change values."""
    exact = {
        "1": (np.bool_, 1),
        "L": (np.uint8, 1),
        "P": (np.uint8, 1),
        "RGB": (np.uint8, 3),
        "RGBA": (np.uint8, 4),
        "I;16": (np.uint16, 1),
        "I;16B": (np.uint16, 1),
        "F": (np.float32, 1),
    }
    if 1 in page.extrasamples or len(series.pages) * page.size != series.size:
        return None
    frames = []
    with PIL.Image.open(path) as image:
        for each in series.pages:
            image.seek(each.index)
            if exact.get(image.mode) != (page.dtype, page.samplesperpixel):
                return None
            frame = np.asarray(image)
            # Pillow shows such pixels as they are seen: stored ones are wanted.
            if page.photometric == _WHITE and image.mode in ("1", "L"):
                frame = ~frame
            frames.append(np.moveaxis(frame, -1, 0) if int(page.planarconfig) == 2 else frame)
    return np.stack(frames).reshape(series.shape)


def _alphas(page: Any, samples: int) -> int:
    """Return 1 if the last sample is transparency, else 0."""
    extra = tuple(int(each) for each in page.extrasamples)
    is_alpha = len(extra) == 1 and extra[0] in _ALPHA
    return int(is_alpha and samples == _SAMPLES.get(page.photometric, 0) + 1)


def _orientation(page: Any) -> int:
    return int(page.tags.valueof(_ORIENTATION, default=1))


def _form(file: tifffile.TiffFile, series: Any, page: Any, lead: tuple[int, ...]) -> Form:
    """Return how to write such a file."""
    tags = page.tags
    options: dict[str, Any] = {"byteorder": file.byteorder, "bigtiff": file.is_bigtiff}
    has_samples = "S" in series.axes or page.photometric == _PALETTE
    inverted = page.photometric == _WHITE and page.dtype.kind == "u"
    is_grey = page.photometric in (_BLACK, _WHITE)
    options["photometric"] = "rgb" if not is_grey else "miniswhite" if inverted else "minisblack"
    if has_samples:
        is_separate = int(page.planarconfig) == 2
        options["planarconfig"] = "separate" if is_separate else "contig"
        if page.extrasamples:
            options["extrasamples"] = tuple(int(each) for each in page.extrasamples)
    if int(page.compression) != 1:
        options["compression"] = "zlib"
        options["predictor"] = page.dtype.kind in "ui" or None
    if page.is_tiled and page.tilelength % 16 == page.tilewidth % 16 == 0:
        options["tile"] = (page.tilelength, page.tilewidth)
    if 282 in tags and 283 in tags:  # XResolution, YResolution: fractions
        options["resolution"] = (tags.valueof(282), tags.valueof(283))
        options["resolutionunit"] = int(tags.valueof(296, default=2))
    if profile := tags.valueof(34675):
        options["iccprofile"] = profile
    if isinstance(date := tags.valueof(306), str) and len(date) == 19:
        options["datetime"] = date
    axes = "".join(axis for axis in series.axes if axis not in "YXS") + "YX"
    axes += "S" * has_samples
    return Form(lead, has_samples, inverted, options | _metadata(file, page, axes))


def _metadata(file: Any, page: Any, axes: str) -> dict[str, Any]:
    """Return arguments for `tifffile.imwrite` that keep what the file says of its axes."""
    if file.is_imagej and set(axes) <= set("TZCYXS"):
        of_size = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack")
        found = {k: v for k, v in (file.imagej_metadata or {}).items() if k not in of_size}
        return {"imagej": True, "metadata": found | {"axes": axes}}
    if file.is_ome and set(axes) <= set("TZCYXS"):
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        found = {k: v for k, v in pixels.items() if k.startswith(_OME)}
        return {"ome": True, "metadata": found | {"axes": axes}}
    software = {"software": page.software or False}
    if file.is_shaped:
        found = dict((file.shaped_metadata or ({},))[0])
        found.pop("shape", None)
        return software | {"metadata": found | {"axes": axes}}
    return software | {"metadata": None, "description": page.description.encode() or None}
