"""Image files in requests: read as every viewer shows them, or refused by name, before decoding.

The same files go through `headers`, which the web server uses, and through the graph that a model
server runs. Pillow says what viewers show.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin

from dvae_tf.kinds.image import headers, png

HEIGHT, WIDTH = 6, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
GREY = PIXELS[..., 0]


def chunk(kind: bytes, data: bytes = b"", *, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_file(
    *before: bytes,
    size=(WIDTH, HEIGHT),
    depth: int = 8,
    colour: int = 0,
    rows: bytes | None = None,
    pixels: bytes | None = None,
    after: bytes = b"",
    interlace: int = 0,
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace))
    if rows is None:
        values = {0: GREY, 2: PIXELS[..., :3], 3: GREY % 4, 4: PIXELS[..., :2], 6: PIXELS}[colour]
        rows = rows_of(values)
    pixels = chunk(b"IDAT", zlib.compress(rows)) if pixels is None else pixels
    return headers.PNG + header + b"".join(before) + pixels + after + headers.IEND


def saved(mode: str, format: str, size=(WIDTH, HEIGHT), **options) -> bytes:
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}[mode]
    values = np.resize(PIXELS[..., :channels], (size[1], size[0], channels))
    content = io.BytesIO()
    image = Image.frombytes(mode, size, values.tobytes())
    image.save(content, format, **options)
    return content.getvalue()


def exif(orientation: int, order: str = ">") -> bytes:
    """Return a TIFF with a width of 5 before the orientation."""
    mark = b"MM" if order == ">" else b"II"
    entries = [(256, 4, 1, 5), (274, 3, 1, orientation)]
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, count)
        body += (
            struct.pack(f"{order}I", value) if kind == 4 else struct.pack(f"{order}HH", value, 0)
        )
    return mark + struct.pack(f"{order}HI", 42, 8) + body + bytes(4)


def app1(data: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def in_jpeg(content: bytes, *segments: bytes) -> bytes:
    return content[:2] + b"".join(segments) + content[2:]


PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]))
JPEG = saved("L", "jpeg", quality=95)
COLOUR_JPEG = saved("RGB", "jpeg", quality=95, subsampling=0)
LONG_TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7_900_000)))

ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
OPAQUE = np.concatenate([PIXELS[..., :3], np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=-1)


def rows_of(values: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in values)


GREY_FILES = {
    "plain": png_file(),
    "interlaced": png_file(
        interlace=1,
        rows=b"".join(rows_of(GREY[y::dy, x::dx]) for x, y, dx, dy in ADAM7 if x < WIDTH),
    ),
    "1 bit": png_file(depth=1, rows=bytes(b for i in range(HEIGHT) for b in (0, 37 * i % 256))),
    "2 bits": png_file(depth=2, rows=bytes(range(3)) * HEIGHT),
    "pixels in many chunks": png_file(
        pixels=b"".join(chunk(b"IDAT", bytes([b])) for b in zlib.compress(rows_of(GREY)))
    ),
    "not compressed": png_file(pixels=chunk(b"IDAT", zlib.compress(rows_of(GREY), 0))),
    "text": png_file(chunk(b"tEXt", b"Comment\0hello"), after=chunk(b"tEXt", b"Comment\0again")),
    "long compressed text": png_file(LONG_TEXT, LONG_TEXT, after=LONG_TEXT),
    "a broken profile": png_file(chunk(b"iCCP", b"a\0\0nonsense")),
    "upright": png_file(chunk(b"eXIf", exif(1))),
    "damaged EXIF": png_file(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
    "EXIF that is cut": png_file(chunk(b"eXIf", exif(6)[:30])),
    "short EXIF": png_file(chunk(b"eXIf", b"MM")),
    "more after the end": png_file() + b"more",
    "opaque grey-alpha": png_file(colour=4, rows=rows_of(OPAQUE[..., 2:])),
    "JPEG": JPEG,
    "progressive JPEG": saved("L", "jpeg", progressive=True, quality=95),
    "JPEG with padding": in_jpeg(JPEG, b"\xff\xff"),
    "upright JPEG": in_jpeg(JPEG, app1(b"Exif\0\0" + exif(1, "<")), app1(b"http://ns.adobe.com/")),
    "JPEG with a profile": saved("L", "jpeg", quality=95, icc_profile=bytes(100_000)),
}
RGB_FILES = {
    "plain": png_file(colour=2),
    "palette": png_file(PALETTE, colour=3),
    "grey": png_file(),
    "opaque": png_file(colour=6, rows=rows_of(OPAQUE)),
    "opaque palette": png_file(PALETTE, chunk(b"tRNS", b"\xff"), colour=3),
    "another colour is transparent": png_file(chunk(b"tRNS", bytes(6)), colour=2),
    "JPEG": COLOUR_JPEG,
    "grey JPEG": JPEG,
}
RGBA_FILES = {
    "plain": png_file(colour=6),
    "opaque": png_file(colour=2),
    "palette": png_file(PALETTE, chunk(b"tRNS", b"\x07"), colour=3),
}
GOOD = [
    pytest.param(content, channels, id=f"{channels}: {name}")
    for channels, files in ((1, GREY_FILES), (3, RGB_FILES), (4, RGBA_FILES))
    for name, content in files.items()
]
HUGE = (20_000, 20_000)
ANY = (None, None)
BAD = {
    "GIF": (saved("L", "gif"), 1, headers.FORMAT),
    "BMP": (saved("RGB", "bmp"), 3, headers.FORMAT),
    "WebP": (saved("RGB", "webp"), 3, headers.FORMAT),
    "JPEG XL": (b"\xff\x0a" + bytes(50), 1, headers.FORMAT),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), 1, headers.FORMAT),
    "empty": (b"", 1, headers.FORMAT),
    "a signature": (headers.PNG, 1, headers.UNDAMAGED),
    "another signature": (headers.JPEG, 1, headers.UNDAMAGED),
    "huge": (png_file(size=HUGE), 1, "images of 5 x 6 pixels"),
    "huge, with a broken checksum": (
        png_file(chunk(b"tEXt", b"a\0b", crc=1), size=HUGE),
        1,
        "images of 5 x 6 pixels",
    ),
    "huge, with a broken profile": (
        png_file(chunk(b"iCCP", b"nonsense"), size=HUGE),
        1,
        "images of 5 x 6 pixels",
    ),
    "huge JPEG": (saved("L", "jpeg", size=(640, 480)), 1, "images of 5 x 6 pixels"),
    "900,000 chunks": (png_file(chunk(b"teSt") * 900_000), 1, headers.CHUNKS),
    "chunks after the pixels": (png_file(after=chunk(b"teSt") * 1000), 1, headers.CHUNKS),
    "pixels without end": (
        png_file(pixels=chunk(b"IDAT", zlib.compress(bytes(10**8)))),
        1,
        headers.UNDAMAGED,
    ),
    "pixels apart": (
        png_file(pixels=chunk(b"IDAT", zlib.compress(rows_of(GREY))) + LONG_TEXT + chunk(b"IDAT")),
        1,
        headers.UNDAMAGED,
    ),
    "no end": (png_file()[:-12], 1, headers.UNDAMAGED),
    "no pixels": (png_file(pixels=b""), 1, headers.UNDAMAGED),
    "no header": (headers.PNG + png_file()[33:], 1, headers.UNDAMAGED),
    "a chunk without end": (png_file(b"\x7f\xff\xff\xffteSt"), 1, headers.UNDAMAGED),
    "a chunk of negative length": (png_file(b"\xff\xff\xff\xf0teSt"), 1, headers.UNDAMAGED),
    "16 bits": (png_file(depth=16, rows=bytes(11) * HEIGHT), 1, headers.EIGHT_BITS),
    "a grey bit and alpha": (png_file(depth=1, rows=bytes(2) * HEIGHT), 4, headers.EIGHT_BITS),
    "colour type 5": (png_file(rows=bytes(6) * HEIGHT, colour=5), 1, headers.UNDAMAGED),
    "grey-alpha": (png_file(colour=4), 1, headers.OPAQUE),
    "alpha": (png_file(colour=6), 3, headers.OPAQUE),
    "a transparent palette": (
        png_file(PALETTE, chunk(b"tRNS", b"\0"), colour=3),
        3,
        headers.OPAQUE,
    ),
    "a transparent colour": (
        png_file(chunk(b"tRNS", struct.pack(">HHH", *PIXELS[0, 0, :3])), colour=2),
        3,
        headers.OPAQUE,
    ),
    "turned": (png_file(chunk(b"eXIf", exif(6))), 1, headers.UPRIGHT),
    "turned, after the pixels": (png_file(after=chunk(b"eXIf", exif(2, "<"))), 1, headers.UPRIGHT),
    "turned JPEG": (in_jpeg(JPEG, app1(b"Exif\0\0" + exif(8))), 1, headers.UPRIGHT),
    "turned JPEG, other order": (
        in_jpeg(JPEG, app1(b"Exif\0\0" + exif(3, "<"))),
        1,
        headers.UPRIGHT,
    ),
    "CMYK": (saved("CMYK", "jpeg"), 3, headers.NO_CMYK),
    "JPEG for alpha": (COLOUR_JPEG, 4, headers.ALPHA),
    "JPEG of 12 bits": (
        JPEG.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c"),
        1,
        headers.EIGHT_BITS,
    ),
    "lossless JPEG": (JPEG.replace(b"\xff\xc0", b"\xff\xc3"), 1, headers.UNDAMAGED),
    "many scans": (JPEG[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 65, 1, headers.SCANS),
    "many segments": (in_jpeg(JPEG, app1(b"") * 600), 1, headers.CHUNKS),
    "JPEG cut in its headers": (JPEG[:100], 1, headers.UNDAMAGED),
}


@pytest.fixture(scope="module")
def answer():
    """Run `denoise_png` of a model that changes nothing, of this size or any; return the pixels."""
    functions = {}

    def run(content: bytes, channels: int, size=(HEIGHT, WIDTH)) -> np.ndarray:
        key = (*size, channels)
        if key not in functions:
            made = png.signatures(lambda images: {"denoised": images}, tf.TensorSpec([None, *key]))
            function, specs = made["denoise_png"]
            functions[key] = tf.function(function, autograph=False).get_concrete_function(**specs)
        (result,) = functions[key](tf.constant([content]))["denoised_bytes"].numpy()
        return np.asarray(Image.open(io.BytesIO(result))).reshape(HEIGHT, WIDTH, channels)

    return run


# Pillow would rather have RGBA of a palette with transparency.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(("content", "channels"), GOOD)
def test_files_are_read_as_viewers_show_them(content, channels, answer, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 2**23)
    with Image.open(io.BytesIO(content)) as image:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        expected = np.asarray(image.convert(mode)).reshape(HEIGHT, WIDTH, channels)
    # TensorFlow's JPEG decoder is the fast, less exact one.
    close = 8 if content.startswith(headers.JPEG) else 0
    np.testing.assert_allclose(answer(content, channels).astype(int), expected, atol=close)
    unchecked = tf.io.decode_image(content, channels, expand_animations=False)
    np.testing.assert_array_equal(answer(content, channels), unchecked)
    plain = headers.plain(content, HEIGHT, WIDTH, channels)
    np.testing.assert_array_equal(answer(plain, channels), answer(content, channels))
    if "zTXt" in str(content):
        assert len(plain) < 200
    assert headers.size(content) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(answer(content, channels, ANY), answer(content, channels))


def test_answers_are_rounded_and_clipped():
    made = png.signatures(
        lambda images: {"denoised": images * 1.7 - 0.2}, tf.TensorSpec([None, 16, 16, 1])
    )
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with io.BytesIO() as file:
        Image.fromarray(levels).save(file, "png")
        (result,) = made["denoise_png"][0](tf.constant([file.getvalue()]))["denoised_bytes"].numpy()
    expected = np.clip(1.7 * levels - 0.2 * 255, 0, 255)
    error = np.asarray(Image.open(io.BytesIO(result))) - expected
    assert np.abs(error).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused_by_name_before_they_are_decoded(name, answer):
    content, channels, reason = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        answer(content, channels)
    assert f"`image_bytes` must hold {reason}" in str(error.value)
    if reason != headers.OPAQUE:  # which a header does not tell
        with pytest.raises(ValueError, match=reason.split("(")[0]):
            headers.plain(content, HEIGHT, WIDTH, channels)


@pytest.mark.parametrize("name", sorted(set(BAD) - {"huge JPEG"}))
def test_a_model_of_any_size_refuses_the_same_files(name, answer):
    content, channels, reason = BAD[name]
    reason = headers.PIXELS if reason == "images of 5 x 6 pixels" else reason
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        answer(content, channels, ANY)
    assert f"`image_bytes` must hold {reason}" in str(error.value)
    if reason != headers.OPAQUE:
        with pytest.raises(ValueError, match=reason.split("(")[0]):
            headers.plain(content, *headers.size(content), channels)


@pytest.mark.slow
def test_damaged_files_are_judged_alike_in_the_graph_and_outside(answer):
    """A byte is changed, removed or doubled in the headers: no file passes only one of the two."""
    rng = np.random.default_rng(1)
    sources = [GREY_FILES[k] for k in ("text", "upright", "upright JPEG", "progressive JPEG")]
    verdicts = {True: 0, False: 0}
    for i in range(400):
        content = bytearray(sources[i % len(sources)])
        place = int(rng.integers(2, min(len(content), 200)))
        content[place : place + 1] = bytes(rng.integers(0, 256, i // 4 % 3).tolist())
        try:
            headers.plain(bytes(content), HEIGHT, WIDTH, 1)
            ours = True
        except ValueError:
            ours = False
        try:
            answer(bytes(content), 1)
            theirs = True
        except tf.errors.InvalidArgumentError as error:
            theirs = "`image_bytes` must hold" not in str(error)  # else the decoder refuses it
        assert ours == theirs or is_about_pixels(bytes(content)), bytes(content)
        verdicts[ours] += 1
    assert min(verdicts.values()) > 50


def is_about_pixels(content: bytes) -> bool:
    """Return whether only the compressed pixels are damaged, which the graph leaves to the decoder."""
    try:
        Image.open(io.BytesIO(content)).load()
    except Exception:
        return content.startswith(headers.PNG)
    return False
