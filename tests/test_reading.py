"""Pictures of every format: what is read, and that they are written as they were."""

import importlib.util
import io
import os
import re
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import PIL.JpegImagePlugin
import pytest
import tensorflow as tf
import tifffile

from dvae_tf.kinds.image import picture, reading, writing
from dvae_tf.kinds.image.picture import Picture
from dvae_tf.streamed import DatasetError

SIZE = (7, 5)
RNG = np.random.default_rng(20170204)


def some(dtype, *shape) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def greys() -> np.ndarray:
    """A picture in 200 colours, all of them grey: a GIF can hold it."""
    return np.repeat(np.arange(35, dtype=np.uint8).reshape(7, 5, 1) * 7, 3, axis=-1)


# ---- TIFF: (array, options of tifffile) -> pages and alpha ----

RESOLVED = {"resolution": ((3001, 10), (1500, 10)), "resolutionunit": "CENTIMETER"}
GREY, RGB = {"photometric": "minisblack"}, {"photometric": "rgb"}
CONTIG, SEPARATE = {"planarconfig": "contig"}, {"planarconfig": "separate"}
MU = "\N{GREEK SMALL LETTER MU}m".encode()
ALPHA = {"extrasamples": ["unassalpha"]}
PLAIN = {"metadata": None}
IMAGEJ = {"imagej": True, "metadata": {"axes": "TZCYX", "unit": "um", "spacing": 3.0}}
OME = {
    "ome": True,
    "metadata": {"axes": "CZYX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "nm"},
}
TIFFS = {
    "grey, 8 bits": (some("u1", *SIZE), GREY | PLAIN),
    "grey, 16 bits": (some("u2", *SIZE), GREY | PLAIN | RESOLVED),
    "grey, 16 bits, big-endian": (some("u2", *SIZE), GREY | PLAIN | RESOLVED | {"byteorder": ">"}),
    "grey, 32 bits": (some("u4", *SIZE), GREY | PLAIN),
    "grey, signed": (some("i2", *SIZE), GREY | PLAIN),
    "grey, half": (some("f2", *SIZE), GREY | PLAIN),
    "grey, float": (some("f4", *SIZE), GREY | PLAIN | RESOLVED | {"byteorder": ">"}),
    "grey, double": (some("f8", *SIZE), GREY | PLAIN),
    "grey and alpha": (some("u1", *SIZE, 2), GREY | CONTIG | ALPHA | PLAIN),
    "white is zero": (some("u1", *SIZE), {"photometric": "miniswhite"} | PLAIN),
    "RGB, 8 bits": (some("u1", *SIZE, 3), RGB | PLAIN | RESOLVED),
    "RGB, 16 bits": (some("u2", *SIZE, 3), RGB | PLAIN),
    "RGB, float": (some("f4", *SIZE, 3), RGB | PLAIN),
    "RGBA, 8 bits": (some("u1", *SIZE, 4), RGB | ALPHA | PLAIN),
    "RGBA, 16 bits": (some("u2", *SIZE, 4), RGB | ALPHA | PLAIN),
    "RGB in planes": (some("u1", 3, *SIZE), RGB | SEPARATE | PLAIN),
    "five channels": (some("f4", *SIZE, 5), GREY | CONTIG | PLAIN),
    "stack": (some("u2", 3, *SIZE), GREY | PLAIN | RESOLVED),
    "stack, RGB": (some("u1", 4, *SIZE, 3), RGB | PLAIN),
    "stack, RGB in planes": (some("u2", 2, 3, *SIZE), RGB | SEPARATE | PLAIN),
    "stack of 1 x 1": (some("u1", 2, 1, 1), GREY | PLAIN),
    "tifffile's axes": (some("u2", 2, 3, *SIZE), GREY | {"metadata": {"axes": "TZYX", "made": 1}}),
    "ImageJ": (some("u2", 2, 3, 2, *SIZE), IMAGEJ | {"resolution": (2.5, 2.5)}),
    "ImageJ, RGB": (some("u1", *SIZE, 3), RGB | {"imagej": True}),
    "OME": (some("u2", 2, 3, *SIZE), GREY | OME),
    "deflate": (some("u2", 70, 50), GREY | PLAIN | {"compression": "zlib", "predictor": True}),
    "tiles": (some("u2", 70, 50), GREY | PLAIN | {"tile": (32, 16)}),
    "BigTIFF": (some("u1", *SIZE), GREY | PLAIN | {"bigtiff": True}),
    "a description": (
        some("u1", *SIZE),
        GREY | PLAIN | {"description": MU},
    ),
}
_PLACES = re.compile("Offsets|ByteCounts|ImageDescription")


def tiff(path, name):
    array, options = TIFFS[name]
    tifffile.imwrite(path, array, **options)
    if options.get("planarconfig") == "separate":
        array = np.moveaxis(array, -3, -1)
    elif array.ndim < 3 or not (options.get("photometric") == "rgb" or "planarconfig" in options):
        array = array[..., None]
    array = array.reshape(-1, *array.shape[-3:])
    return (array[..., :-1], array[..., -1:]) if "extrasamples" in options else (array, None)


def tags(path) -> dict:
    with tifffile.TiffFile(path) as file:
        return {tag.name: tag.value for tag in file.pages[0].tags if not _PLACES.search(tag.name)}


@pytest.mark.parametrize("name", TIFFS)
def test_tiff(name, tmp_path):
    path, again = tmp_path / "picture.tif", tmp_path / "again.tif"
    pages, alpha = tiff(path, name)
    found = reading.read(path)
    expected = 255 - pages if name == "white is zero" else pages
    np.testing.assert_array_equal(found.pages, expected, strict=True)
    assert reading.header(path) == (pages.shape, pages.dtype) == found.header
    if alpha is None:
        assert found.alpha is None
    else:
        np.testing.assert_array_equal(found.alpha, alpha, strict=True)
    writing.write(again, found)
    np.testing.assert_array_equal(tifffile.imread(again), tifffile.imread(path), strict=True)
    assert tags(again) == tags(path)
    with tifffile.TiffFile(path) as old, tifffile.TiffFile(again) as new:
        for each in ("byteorder", "is_bigtiff", "is_imagej", "is_ome", "is_shaped"):
            assert getattr(new, each) == getattr(old, each)
        assert len(new.pages) == len(old.pages)
        assert new.series[0].axes == old.series[0].axes
        if name == "OME":
            sizes = [re.findall("PhysicalSize[^ ]*", file.ome_metadata) for file in (old, new)]
            assert sizes[0] == sizes[1] and len(sizes[0]) == 2
        else:
            assert new.pages[0].description == old.pages[0].description


def test_orientation_and_palettes_and_bits_of_tiff_files(tmp_path):
    path, again = tmp_path / "picture.tif", tmp_path / "again.tif"
    array = some("u2", *SIZE)
    tifffile.imwrite(path, array, extratags=[(274, "H", 1, 6, True)], **GREY, **PLAIN)
    found = reading.read(path)
    np.testing.assert_array_equal(found.pages[0, ..., 0], np.rot90(array, -1))
    assert reading.header(path) == found.header
    writing.write(again, found)
    np.testing.assert_array_equal(tifffile.imread(again), np.rot90(array, -1))
    assert 274 not in tags(again)
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    for scale in (1, 257):  # some programs write 8 bits
        array = some("u1", *SIZE)
        tifffile.imwrite(path, array, photometric="palette", colormap=colours * scale, **PLAIN)
        found = reading.read(path)
        np.testing.assert_array_equal(found.pages[0], np.moveaxis(colours, 0, -1)[array])
        assert reading.header(path) == found.header == ((1, *SIZE, 3), np.uint8)
        writing.write(again, found)
        np.testing.assert_array_equal(tifffile.imread(again), found.pages[0])
    bits = some("u1", *SIZE) > 99
    tifffile.imwrite(path, bits, **GREY, **PLAIN)
    found = reading.read(path)
    np.testing.assert_array_equal(found.pages[0, ..., 0], bits * np.uint8(255), strict=True)
    assert reading.header(path) == found.header


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F", "1", "P"])
def test_lzw_is_read_without_imagecodecs(mode, tmp_path):
    path, again = tmp_path / "picture.tif", tmp_path / "again.tif"
    arrays = {"RGB": some("u1", *SIZE, 3), "I;16": some("u2", *SIZE), "F": some("f4", *SIZE)}
    image = PIL.Image.fromarray(arrays.get(mode, some("u1", *SIZE)))
    if mode in ("1", "P"):
        image = image.convert(mode)
    other = image.transpose(PIL.Image.Transpose.ROTATE_180)
    image.save(path, compression="tiff_lzw", save_all=True, append_images=[other], dpi=(300, 200))
    found = reading.read(path)
    shown = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(mode, mode))).reshape(*SIZE, -1)
    np.testing.assert_array_equal(found.pages, [shown, shown[::-1, ::-1]])
    writing.write(again, found)
    np.testing.assert_array_equal(reading.read(again).pages, found.pages, strict=True)
    assert tags(again)["XResolution"] == (300, 1)
    if mode == "L":  # the same values, of which 0 is white
        with tifffile.TiffFile(path, mode="r+b") as file:
            for page in file.pages:
                page.tags["PhotometricInterpretation"].overwrite(0)
        np.testing.assert_array_equal(reading.read(path).pages, 255 - found.pages)


def test_other_compressions_need_imagecodecs(tmp_path):
    path = tmp_path / "picture.tif"
    array = some("u2", *SIZE, 3)
    if importlib.util.find_spec("imagecodecs"):
        tifffile.imwrite(path, array, compression="lzw", predictor=True, **RGB, **PLAIN)
        np.testing.assert_array_equal(reading.read(path).pages[0], array, strict=True)
        return
    tifffile.imwrite(path, array, **RGB, **PLAIN)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(5)
    words = "Received: LZW of 16 bits. Install imagecodecs, or convert it."
    with pytest.raises(DatasetError, match=re.escape(words)):
        reading.read(path)


# ---- the others ----


def png(array) -> bytes:
    return tf.io.encode_png(array).numpy()  # Pillow cannot write 16 bits in colour


def saved(array, suffix, **options) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, suffix, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png(dtype, samples, tmp_path):
    """TensorFlow's decoder, which is libpng, is the oracle."""
    path, again = tmp_path / "picture.png", tmp_path / "again.png"
    array = some(dtype, 37, 53, samples)
    path.write_bytes(png(array))
    found = reading.read(path)
    channels = 1 if samples < 3 else 3
    np.testing.assert_array_equal(found.pages[0], array[..., :channels], strict=True)
    assert (found.alpha is None) == (samples in (1, 3))
    if found.alpha is not None:
        np.testing.assert_array_equal(found.alpha[0], array[..., channels:], strict=True)
    assert reading.header(path) == found.header
    writing.write(again, found)
    decoded = tf.io.decode_png(again.read_bytes(), dtype=dtype).numpy()
    np.testing.assert_array_equal(decoded, array, strict=True)


@pytest.mark.parametrize("samples", [1, 3])
def test_deep_png_that_names_a_transparent_colour_and_has_chunks(samples, tmp_path):
    path, again = tmp_path / "picture.png", tmp_path / "again.png"
    array = some("u2", *SIZE, samples)
    key = struct.pack(f">{samples}H", *array[2, 3])
    chunks = {b"gAMA": struct.pack(">I", 50000), b"pHYs": struct.pack(">IIB", 3000, 2000, 1)}
    content = png(array)
    for kind, data in (chunks | {b"tRNS": key}).items():
        chunk = kind + data
        checksum = struct.pack(">I", zlib.crc32(chunk))
        content = content[:33] + struct.pack(">I", len(data)) + chunk + checksum + content[33:]
    path.write_bytes(content)
    found = reading.read(path)
    np.testing.assert_array_equal(found.pages[0], array)
    opaque = (array != array[2, 3]).any(-1, keepdims=True)
    np.testing.assert_array_equal(found.alpha[0], opaque * np.uint16(65535), strict=True)
    writing.write(again, found)
    np.testing.assert_array_equal(reading.read(again).alpha, found.alpha)
    for kind, data in chunks.items():
        assert kind + data in again.read_bytes()


def as_exif(orientation) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    return exif.tobytes()


def turned_by_pillow(array, orientation):
    image = PIL.Image.fromarray(array)
    image.getexif()[0x0112] = orientation
    return np.asarray(PIL.ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, tmp_path):
    array = some("u1", *SIZE, 3)
    expected = turned_by_pillow(array, orientation)
    np.testing.assert_array_equal(picture.turned(array[None], orientation)[0], expected)
    path, again = tmp_path / "picture.png", tmp_path / "again.png"
    path.write_bytes(saved(array, "PNG", exif=as_exif(orientation)))
    found = reading.read(path)
    np.testing.assert_array_equal(found.pages[0], expected)
    assert reading.header(path) == found.header
    writing.write(again, found)
    with PIL.Image.open(again) as image:
        np.testing.assert_array_equal(image, expected)
        assert dict(image.getexif()) == {0x010F: "a camera"}


OTHERS = {
    "BMP, grey": (saved(some("u1", *SIZE), "BMP", dpi=(300, 200)), 1),
    "BMP, RGB": (saved(some("u1", *SIZE, 3), "BMP"), 3),
    "GIF": (saved(greys(), "GIF"), 3),
    "PNG, palette": (saved(greys(), "PNG"), 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_lossless_files(name, tmp_path):
    content, channels = OTHERS[name]
    path, again = tmp_path / "picture", tmp_path / "again"
    path.write_bytes(content)
    found = reading.read(path)
    with PIL.Image.open(path) as image:
        expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        before = image.format, image.info.get("dpi")
    np.testing.assert_array_equal(found.pages[0], expected.reshape(*SIZE, channels), strict=True)
    assert reading.header(path) == found.header
    writing.write(again, found)
    np.testing.assert_array_equal(reading.read(again).pages, found.pages, strict=True)
    with PIL.Image.open(again) as image:
        assert (image.format, image.info.get("dpi")) == before


def test_bmp_with_alpha(tmp_path):
    array = some("u1", *SIZE, 4)
    path, again = tmp_path / "picture.png", tmp_path / "again.bmp"
    path.write_bytes(saved(array, "PNG"))
    rgba = reading.read(path)
    path = tmp_path / "picture.bmp"
    path.write_bytes(saved(array[..., :3], "BMP"))
    form = reading.read(path).form
    writing.write(again, Picture(rgba.pages, rgba.alpha, form))
    with PIL.Image.open(again) as image:
        np.testing.assert_array_equal(image, array)
    found = reading.read(again)
    np.testing.assert_array_equal(found.pages, rgba.pages)
    np.testing.assert_array_equal(found.alpha, rgba.alpha)


def test_palettes_with_transparency(tmp_path):
    image = PIL.Image.fromarray(greys()[..., 0]).convert("P")
    path, again = tmp_path / "picture.png", tmp_path / "again.png"
    image.save(path, transparency=14)
    found = reading.read(path)
    with PIL.Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGBA"))
    assert (expected[..., 3] == 0).sum() == 1
    np.testing.assert_array_equal(found.pages[0], expected[..., :3])
    np.testing.assert_array_equal(found.alpha[0], expected[..., 3:])
    writing.write(again, found)
    with PIL.Image.open(again) as opened:
        np.testing.assert_array_equal(opened, expected)


@pytest.mark.parametrize("transparent", [False, True])
def test_animations(transparent, tmp_path):
    """Three frames of ten colours each; times, repeats and transparency stay."""
    path, again = tmp_path / "picture.gif", tmp_path / "again.gif"
    frames = []
    for _ in range(3):
        frame = PIL.Image.fromarray(RNG.integers(0, 10, SIZE).astype(np.uint8))
        frame.putpalette(RNG.integers(0, 256, 30).astype(np.uint8).tobytes())
        frames.append(frame)
    options = {"transparency": 3, "disposal": 2} if transparent else {}
    times = {"duration": [40, 50, 60], "loop": 2}
    frames[0].save(path, save_all=True, append_images=frames[1:], **times, **options)
    expected = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
    found = reading.read(path)
    is_seen = np.stack([np.asarray(frame) for frame in frames]) != 3
    if not transparent:
        is_seen[:] = True
    np.testing.assert_array_equal(found.pages[is_seen], expected[is_seen])
    assert (found.alpha is None) != transparent
    assert reading.header(path) == found.header
    writing.write(again, found)
    written = reading.read(again)
    np.testing.assert_array_equal(written.pages[is_seen], expected[is_seen])
    if transparent:
        np.testing.assert_array_equal(written.alpha[..., 0], is_seen * 255)
    assert written.form == found.form
    assert written.form.saving == times


def test_gif_of_more_colours_than_it_can_hold(tmp_path):
    path = tmp_path / "picture.gif"
    path.write_bytes(OTHERS["GIF"][0])
    found = reading.read(path)
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    colours = np.stack([*np.meshgrid(ramp, ramp), np.zeros((64, 64), np.uint8)], axis=-1)
    writing.write(path, Picture(colours[None], None, found.form))
    again = reading.read(path).pages[0].astype(int)
    assert np.abs(again - colours).mean() < 8  # 256 cells of 16 x 16 levels: 4 in the mean


def test_jpeg(tmp_path):
    path, again = tmp_path / "picture.jpg", tmp_path / "again.jpg"
    y, x = np.mgrid[:40, :50]
    smooth = np.stack([x * 5, y * 6, x + y], axis=-1).astype(np.uint8)
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for array in (smooth, smooth[..., 0]):
        options = {"icc_profile": profile, "dpi": (300, 200), "exif": as_exif(6)}
        path.write_bytes(saved(array, "JPEG", quality=90, **options))
        found = reading.read(path)
        with PIL.Image.open(path) as image:
            expected = np.rot90(np.asarray(image), -1).reshape(50, 40, -1)
        np.testing.assert_array_equal(found.pages[0], expected, strict=True)
        assert reading.header(path) == found.header
        writing.write(again, found)
        written = reading.read(again)
        assert np.abs(written.pages.astype(int) - found.pages).max() <= 4
        assert written.header == found.header
        assert written.form == found.form
        with PIL.Image.open(again) as image:
            assert image.info["dpi"] == (300, 200) and image.info["icc_profile"] == profile
            if array.ndim == 3:
                assert PIL.JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


NPYS = {
    "[H, W]": (some("u1", *SIZE), (1, *SIZE, 1)),
    "[H, W, C]": (some("u2", *SIZE, 3), (1, *SIZE, 3)),
    "[N, H, W]": (some("f4", 3, *SIZE), (3, *SIZE, 1)),
    "[N, H, W, C]": (some("f8", 2, *SIZE, 2), (2, *SIZE, 2)),
    "big-endian": (some("u2", *SIZE).astype(">u2"), (1, *SIZE, 1)),
    "Fortran's order": (np.asfortranarray(some("f4", *SIZE)), (1, *SIZE, 1)),
    "bool": (some("u1", *SIZE) > 99, (1, *SIZE, 1)),
}


@pytest.mark.parametrize("name", NPYS)
def test_npy(name, tmp_path):
    array, shape = NPYS[name]
    path, again = tmp_path / "picture.npy", tmp_path / "again.npy"
    np.save(path, array)
    found = reading.read(path)
    expected = (
        array * np.uint8(255) if name == "bool" else array.astype(array.dtype.newbyteorder("="))
    )
    np.testing.assert_array_equal(found.pages, expected.reshape(shape), strict=True)
    assert reading.header(path) == found.header
    writing.write(again, found)
    np.testing.assert_array_equal(np.load(again), expected, strict=True)


# ---- what cannot be read or written ----


def damaged_files(folder):
    for index, name in enumerate(TIFFS):
        tiff(folder / f"{index}.tif", name)
    for dtype in (np.uint8, np.uint16):
        for samples in range(1, 5):
            array = some(dtype, *SIZE, samples)
            (folder / f"{np.dtype(dtype)}-{samples}.png").write_bytes(png(array))
    for index, (content, _) in enumerate(OTHERS.values()):
        (folder / f"{index}.bmp").write_bytes(content)
    (folder / "0.jpg").write_bytes(saved(some("u1", *SIZE, 3), "JPEG"))
    for index, (array, _) in enumerate(NPYS.values()):
        np.save(folder / f"{index}.npy", array)
    return sorted(folder.iterdir())


def attempt(function, path):
    """Return the result and no words, or None and the words of a DatasetError."""
    try:
        return function(path), ""
    except DatasetError as error:
        return None, str(error)


def test_cut_files_are_named_or_complete(tmp_path):
    cut = tmp_path / "cut"
    (tmp_path / "intact").mkdir()
    for path in damaged_files(tmp_path / "intact"):
        content, intact = path.read_bytes(), reading.read(path)
        named = 0
        for share in (0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
            cut.write_bytes(content[: int(share * len(content))])
            found, words = attempt(reading.read, cut)
            if found is None:
                assert words.startswith(f"{cut} must ") and "\n" not in words
                named += 1
                continue
            # What is cut off was padding, or says nothing of the pixels.
            np.testing.assert_array_equal(found.pages, intact.pages, err_msg=f"{path} {share}")
        assert named >= 4, path


@pytest.mark.parametrize("seed", range(4))
def test_overwritten_bytes_raise_nothing_else(seed, tmp_path):
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged"
    (tmp_path / "intact").mkdir()
    for each in damaged_files(tmp_path / "intact"):
        content = np.frombuffer(each.read_bytes(), np.uint8).copy()
        places = rng.integers(0, min(len(content), 300), 4)
        content[places] = rng.integers(0, 256, 4)
        path.write_bytes(content.tobytes())
        for function in (reading.header, reading.read):
            assert "\n" not in attempt(function, path)[1]


def test_refused(tmp_path):
    path = tmp_path / "picture"

    def message() -> str:
        with pytest.raises(DatasetError) as raised:
            reading.read(path)
        assert str(path) in str(raised.value)
        with pytest.raises(DatasetError, match=re.escape(str(raised.value))):
            reading.header(path)
        return str(raised.value)

    assert "Received: no such file. Remove" in message()
    path.mkdir()
    assert "Received: a folder. Remove" in message()
    path.rmdir()
    os.mkfifo(path)
    assert "a pipe, a socket or a device" in message()
    path.unlink()
    path.write_bytes(b"")
    assert "content of another format" in message()
    path.write_bytes(saved(some("u1", *SIZE, 3), "WEBP"))
    assert "Received: WEBP by its content. Convert it." in message()
    path.write_bytes(saved(some("u1", *SIZE, 4), "TIFF"))
    PIL.Image.fromarray(some("u1", *SIZE, 4)).convert("CMYK").save(path, "JPEG")
    assert "inks (CMYK). Convert it to sRGB." in message()
    PIL.Image.fromarray(some("u1", *SIZE, 4)).convert("CMYK").save(path, "TIFF")
    assert "colours of type SEPARATED. Convert them" in message()
    frames = [PIL.Image.fromarray(some("u1", *SIZE)) for _ in range(2)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])
    assert "an animated PNG. Save its frames" in message()
    with tifffile.TiffWriter(path) as file:
        file.write(some("u1", *SIZE), **PLAIN)
        file.write(some("u1", 9, 9), **PLAIN)
    assert "pages of several sizes or types. Save each" in message()
    tifffile.imwrite(path, some("f4", *SIZE).astype(np.complex64), **GREY, **PLAIN)
    assert "values of type complex64. Convert" in message()
    for array, words in (
        (np.zeros(3), "shape (3,). Reshape it."),
        (np.zeros((3, 0)), "shape (3, 0). Reshape it."),
        (np.zeros(SIZE, complex), "complex128. Convert them."),
        (np.array([[None]]), "object"),
    ):
        with path.open("wb") as file:
            np.save(file, array)
        assert words in message()


def test_headers_of_pictures_larger_than_their_files(tmp_path):
    """Nothing is allocated for them: 16 GiB of pixels would otherwise be zeros."""
    path = tmp_path / "picture.tif"
    for options in ({}, {"compression": "zlib"}):
        tifffile.imwrite(path, some("u1", 16, 16), **GREY, **PLAIN, **options)
        with tifffile.TiffFile(path, mode="r+b") as file:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                file.pages[0].tags[name].overwrite(2**17 - 1)
        with pytest.raises(DatasetError, match="more than the file can hold"):
            reading.read(path)


def test_pixels_that_pillow_refuses(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(saved(np.zeros((30, 40), np.uint8), "PNG"))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    assert reading.read(path).pages.shape == (1, 30, 40, 1)  # up to twice, without a warning
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(
        DatasetError, match=r"must have up to .* million pixels.* Convert it to TIFF"
    ):
        reading.read(path)


def test_writing_is_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "picture.npy"
    np.save(path, some("u1", *SIZE))
    before = path.read_bytes()
    found = reading.read(path)

    def half(file, *_, **__):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(OSError, match="No space"):
        writing.write(path, found)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["picture.npy"]


def test_other_values_must_fit_the_file(tmp_path):
    path = tmp_path / "picture.npy"
    np.save(path, some("u1", *SIZE))
    found = reading.read(path)
    assert found.with_pages(255 - found.pages).pages[0, 0, 0, 0] == 255 - found.pages[0, 0, 0, 0]
    for pages in (found.pages.astype(np.float32), found.pages[:, 1:]):
        with pytest.raises(ValueError, match="`pages` must be uint8"):
            found.with_pages(pages)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_floats_beside_a_picture(channels, tmp_path):
    path, again = tmp_path / "picture.tif", tmp_path / "stddev.tif"
    tiff(path, "grey, 16 bits")
    values = some("f4", 2, *SIZE, channels)
    writing.write_floats(again, values, like=reading.read(path))
    np.testing.assert_array_equal(reading.read(again).pages, values, strict=True)
    assert tags(again)["XResolution"] == (3001, 10)
    np.save(tmp_path / "picture.npy", some("u1", *SIZE))
    writing.write_floats(again, values, like=reading.read(tmp_path / "picture.npy"))
    np.testing.assert_array_equal(reading.read(again).pages, values, strict=True)
