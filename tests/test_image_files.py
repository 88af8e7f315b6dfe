"""What image files say of themselves is applied, or refused by name."""

import io
import os
import re
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL.PngImagePlugin import PngInfo

from dvae_tf import datasets
from dvae_tf.datasets import DatasetError
from dvae_tf.kinds.image import folders

GREY, COLOUR = "grey", "colour"
IMPOSSIBLE = None  # Pillow cannot write this mode in this format
INKS, DEEP, TIFF = r"inks \(CMYK\)", "16 bits a channel", "TIFF by its content"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF")
# What becomes of an image of each of Pillow's modes, saved in each format: docs/compatibility.md.
# Some formats store another mode: JPEG 1 as L and YCbCr as RGB; GIF all as P; BMP RGBA as RGB.
MODES = {
    "1": (GREY, GREY, GREY, COLOUR, TIFF),
    "L": (GREY, GREY, GREY, COLOUR, TIFF),
    "LA": (GREY, IMPOSSIBLE, IMPOSSIBLE, COLOUR, TIFF),
    "P": (COLOUR, IMPOSSIBLE, COLOUR, COLOUR, TIFF),
    "PA": (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, TIFF),
    "RGB": (COLOUR, COLOUR, COLOUR, COLOUR, TIFF),
    "RGBA": (COLOUR, IMPOSSIBLE, COLOUR, COLOUR, TIFF),
    "CMYK": (IMPOSSIBLE, INKS, IMPOSSIBLE, IMPOSSIBLE, TIFF),
    "I;16": (DEEP, IMPOSSIBLE, IMPOSSIBLE, COLOUR, TIFF),
    "I": (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, COLOUR, TIFF),
    "F": (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, COLOUR, TIFF),
    "HSV": (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE),
    "LAB": (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, TIFF),
    "YCbCr": (IMPOSSIBLE, COLOUR, IMPOSSIBLE, IMPOSSIBLE, TIFF),
}
GREY_SOURCES = ("1", "L", "LA", "I;16", "I", "F")  # made from a grey image, the others in colour


def halves(left, right) -> np.ndarray:
    """An image of 16 x 8 pixels, the left half in one colour: uint8 [8, 16, C]."""
    image = np.zeros((8, 16, len(left)), np.uint8)
    image[:, :8], image[:, 8:] = left, right
    return image


RED_AND_WHITE = halves((255, 0, 0), (255, 255, 255))
BLACK_AND_WHITE = halves((0,), (255,))


def read(*paths) -> np.ndarray:
    return np.asarray(folders.image_files([*paths]))


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode, tmp_path):
    if mode in GREY_SOURCES:
        image = PIL.Image.fromarray(BLACK_AND_WHITE[..., 0]).convert(mode)
    elif mode == "LAB":
        image = PIL.Image.new("LAB", (16, 8))
    elif mode == "PA":
        image = PIL.Image.fromarray(RED_AND_WHITE).convert("P").convert("PA")
    else:
        image = PIL.Image.fromarray(RED_AND_WHITE).convert(mode)
    for suffix, expected in zip(FORMATS, MODES[mode], strict=True):
        # By its name each is one that a folder's reader takes.
        path = tmp_path / f"{mode} as {suffix}".replace(";", "").replace("TIFF", "TIFF.png")
        options = {"quality": 100, "subsampling": 0} if suffix == "JPEG" else {}
        if expected is IMPOSSIBLE:
            with pytest.raises((OSError, ValueError, KeyError)):
                image.save(path, suffix, **options)
            continue
        image.save(path, suffix, **options)
        if expected not in (GREY, COLOUR):
            with pytest.raises(DatasetError, match=rf"must be a PNG.* Received: {expected}\. Conv"):
                read(path)
            continue
        (decoded,) = read(path)
        assert decoded.shape == (8, 16, 1 if expected == GREY else 3)
        wanted = BLACK_AND_WHITE if mode in GREY_SOURCES else RED_AND_WHITE
        np.testing.assert_allclose(decoded.astype(int), wanted + 0 * decoded, atol=1)


def test_the_page_has_the_same_table():
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.*) \|$", page.split("\n## Image files")[1], re.MULTILINE)
    head, *rows = [line.split(" | ") for line in lines]
    assert head == ["mode", *FORMATS]
    told = {mode: tuple(cells) for modes, *cells in rows for mode in modes.split(", ")}
    words = {IMPOSSIBLE: "no", INKS: "refused", DEEP: "refused", TIFF: "refused"}
    assert told == {
        mode: tuple(words.get(cell, cell) for cell in cells) for mode, cells in MODES.items()
    }


def test_palettes_and_compression_of_bmp_files(tmp_path):
    """The palette of red and white, as a BMP, GIF and PNG; 4 bits; and run lengths."""
    palette = PIL.Image.fromarray(BLACK_AND_WHITE[..., 0] // 255).convert("P")
    palette.putpalette([255, 0, 0, 255, 255, 255])
    paths = [tmp_path / f"palette.{suffix}" for suffix in ("bmp", "gif", "png")]
    for path in paths:
        palette.save(path)
    # By hand: headers of 14 and 40 bytes, two colours, and rows of run lengths from the bottom.
    rows = b"\x08\x00\x08\x01\x00\x00" * 8 + b"\x00\x01"
    head = struct.pack("<IiiHHIIiiII", 40, 16, 8, 1, 8, 1, len(rows), 2835, 2835, 2, 0)
    body = head + b"\x00\x00\xff\x00" + b"\xff\xff\xff\x00" + rows
    paths.append(tmp_path / "run lengths.bmp")
    paths[-1].write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 14 + 48) + body)
    for decoded in read(*paths):
        np.testing.assert_array_equal(decoded, RED_AND_WHITE)


UPRIGHT = {  # EXIF 2.3, tag Orientation: from the pixels as stored to the upright image
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_upright(suffix, tmp_path):
    stored = np.full((16, 24), 40, np.uint8)
    stored[:8, :8], stored[8:, :8], stored[:8, 8:16] = 250, 100, 170
    for orientation, turned in UPRIGHT.items():
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        PIL.Image.fromarray(stored).save(
            path, exif=exif, **{"quality": 100} if suffix == "jpg" else {}
        )
        (decoded,) = read(path)
        np.testing.assert_allclose(decoded[..., 0].astype(int), turned(stored), atol=1)


def test_turned_and_plain_files_stream_together(tmp_path):
    """Of 12 files each second one lies on its side; every value is exact in PNG."""
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 6, 3)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for index, image in enumerate(images):
        path = tmp_path / f"{index:02d}.png"
        if index % 2:
            PIL.Image.fromarray(np.rot90(image)).save(path, exif=exif)
        else:
            PIL.Image.fromarray(image).save(path)
    streamed, held = (datasets.load(str(tmp_path), cache=cache) for cache in ("none", "memory"))
    batches = datasets.training_batches(streamed.train, 5, seed=0).take(4).as_numpy_iterator()
    theirs = datasets.training_batches(held.train, 5, seed=0).take(4).as_numpy_iterator()
    for ours, other in zip(batches, theirs, strict=True):
        np.testing.assert_array_equal(ours, other)
        for image in np.round(ours * 255):
            assert (image == images).all(axis=(1, 2, 3)).any()


def test_a_cut_file_that_pillow_decodes_is_named(tmp_path):
    paths = [tmp_path / f"{index}.bmp" for index in range(3)]
    for path in paths:
        PIL.Image.fromarray(RED_AND_WHITE).save(path)
    images = folders.image_files(paths)
    np.testing.assert_array_equal(images, [RED_AND_WHITE] * 3)
    paths[1].write_bytes(paths[1].read_bytes()[:-10])
    for read_all in (lambda: np.asarray(images), images.check):
        with pytest.raises(DatasetError, match=r"1\.bmp must be a readable.*truncated.*\. Remove"):
            read_all()


# ---- colours ----


def swapped_profile() -> bytes:
    """sRGB with the names of red and green swapped: of all else it leaves the values alone."""
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ")):
        assert profile.count(old) == 1
        profile = profile.replace(old, new)
    return profile


def linear_grey_profile() -> bytes:
    """An ICC profile (version 2.4) of grey in proportion to the light."""
    white = struct.pack(">iii", 63190, 65536, 54061)  # D50, in 1/65536
    tags = {b"wtpt": b"XYZ \0\0\0\0" + white, b"kTRC": b"curv" + bytes(8)}
    table, body = b"", b""
    for name, content in tags.items():
        offset = 128 + 4 + 12 * len(tags) + len(body)
        table += name + struct.pack(">II", offset, len(content))
        body += content
    size = 128 + 4 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    head += bytes(68 - len(head)) + white
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def test_colour_profiles_are_applied(tmp_path):
    colours = halves((200, 30, 60), (90, 140, 250))
    path = tmp_path / "swapped.png"
    PIL.Image.fromarray(colours).save(path, icc_profile=swapped_profile())
    (decoded,) = read(path)
    np.testing.assert_allclose(decoded.astype(int), colours[..., [1, 0, 2]], atol=1)
    grey = halves((13,), (128,))
    path = tmp_path / "linear.png"
    PIL.Image.fromarray(grey[..., 0]).save(path, icc_profile=linear_grey_profile())
    (decoded,) = read(path)
    light = grey / 255
    expected = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(decoded / 255, expected, atol=1 / 255)


def test_profiles_that_change_nothing_leave_every_bit(tmp_path):
    """sRGB, and a profile of another colour space than the image's, which viewers ignore, too."""
    srgb = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    for profile in (srgb, linear_grey_profile()):
        for image, suffix in zip(images, ("png", "jpg"), strict=True):
            plain, labelled = (tmp_path / f"{name}.{suffix}" for name in ("plain", "labelled"))
            PIL.Image.fromarray(image).save(plain)
            PIL.Image.fromarray(image).save(labelled, icc_profile=profile)
            np.testing.assert_array_equal(*read(plain, labelled))


def with_chunk(path, name: bytes, *values: int) -> None:
    """Write red and white as a PNG with one chunk more, of 32-bit numbers."""
    chunk = PngInfo()
    chunk.add(name, struct.pack(f">{len(values)}I", *values))
    PIL.Image.fromarray(RED_AND_WHITE).save(path, pnginfo=chunk)


SRGB_CORNERS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_CORNERS = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (b"gAMA", [100000], r"gamma 1, where that of sRGB is 0\.45455"),
        (b"gAMA", [55556], r"gamma 0\.55556"),
        (b"gAMA", [45455], None),
        (b"cHRM", P3_CORNERS, r"primary colours other .*\(cHRM\)"),
        (b"cHRM", SRGB_CORNERS, None),
        (b"cICP", [0x09100001], r"another space than sRGB \(cICP\)"),  # BT.2100, PQ
        (b"cICP", [0x010D0001], None),
    ],
)
def test_colours_of_png_files(name, values, message, tmp_path):
    path = tmp_path / "x.png"
    with_chunk(path, name, *values)
    if message is None:
        np.testing.assert_array_equal(read(path)[0], RED_AND_WHITE)
    else:
        with pytest.raises(
            DatasetError, match=rf"x\.png must be .* Received: .*{message}.*sRGB\.$"
        ):
            read(path)


def test_more_that_is_refused_by_name(tmp_path):
    deep = tmp_path / "deep.png"
    deep.write_bytes(tf.io.encode_png(RED_AND_WHITE.astype(np.uint16) * 257).numpy())
    with pytest.raises(DatasetError, match=r"16 bits a channel\. Convert it to 8 bits, or .*\.npy"):
        read(deep)
    # A BMP with a header of 124 bytes that says that a profile follows.
    bmp = tmp_path / "profile.bmp"
    PIL.Image.fromarray(RED_AND_WHITE).save(bmp)
    content = bytearray(bmp.read_bytes())
    content[10:14], content[14:18] = struct.pack("<I", 138), struct.pack("<I", 124)
    for space, is_refused in ((b"BGRs", False), (b"DEBM", True)):
        rest = bytes(16) + space + bytes(84 - 20)
        bmp.write_bytes(bytes(content[:54]) + rest + bytes(content[54:]))
        if is_refused:
            with pytest.raises(DatasetError, match="a BMP file with a colour profile"):
                read(bmp)
        else:
            np.testing.assert_array_equal(read(bmp)[0], RED_AND_WHITE)
    broken = tmp_path / "broken.png"
    PIL.Image.fromarray(RED_AND_WHITE).save(broken, icc_profile=b"no profile")
    with pytest.raises(DatasetError, match=r"broken\.png must be a readable image"):
        read(broken)


# ---- sizes, links, and what is passed over ----


def test_sizes_are_compared_before_an_image_is_decoded(tmp_path):
    """The first image says that it has 144 million pixels, and holds none of them."""
    content = io.BytesIO()
    PIL.Image.fromarray(RED_AND_WHITE).save(content, "PNG")
    huge = bytearray(content.getvalue()[:33])
    huge[16:24] = struct.pack(">II", 12000, 12000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    (tmp_path / "0.png").write_bytes(bytes(huge) + content.getvalue()[33:])
    for index in (1, 2, 3):
        (tmp_path / f"{index}.png").write_bytes(content.getvalue())
    with pytest.raises(
        DatasetError, match=r"one shape.*\(8, 16, 3\) in .*1\.png and 2 more, \(12000"
    ):
        datasets.load(str(tmp_path))
    huge[16:24] = struct.pack(">II", 20000, 20000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    (tmp_path / "0.png").write_bytes(bytes(huge) + content.getvalue()[33:])
    with pytest.raises(DatasetError, match=r"0\.png must be a readable image.*400000000 pixels"):
        datasets.load(str(tmp_path))


def numbered(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)


def test_links_to_folders_are_followed_once_each(tmp_path):
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for number, path in enumerate(
        [root / "b" / "0.png", root / "c" / "0.png", elsewhere / "x" / "0.png", elsewhere / "1.png"]
    ):
        numbered(path, number)
    numbered(tmp_path / "beside.png", 99)
    (root / "a").symlink_to(root / "b")  # sorted before what it points to
    (root / "far").symlink_to(elsewhere)
    (root / "far again").symlink_to(elsewhere / "x")
    (elsewhere / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)  # a folder around this one
    (root / "self").symlink_to("self")
    with pytest.warns(UserWarning, match="4 images are read") as caught:
        files, _ = folders.load_folder(root)
    assert np.asarray(files[0])[:, 0, 0, 0].tolist() == [0, 1, 3, 2]
    names = [os.fsdecode(key[1:]).removeprefix(f"{root}/") for key in files[0].keys]
    assert names == ["b/0.png", "c/0.png", "far/1.png", "far/x/0.png"]
    assert files[1].tolist() == [0, 1, 2, 3]  # the labels b, c, far and x
    (line,) = [str(warning.message) for warning in caught]
    assert line == (
        f"{root}: 4 images are read; passed over: 4 links to folders that are read already, "
        "1 broken links"
    )


def test_what_is_passed_over_is_counted(tmp_path):
    for index in range(4):
        numbered(tmp_path / "a" / f"{index}.png", index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folders.load_folder(tmp_path)
    for name in ("notes.txt", "a/more.TXT", ".hidden.png", "a/.DS_Store", "README"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".thumbnails").mkdir()
    numbered(tmp_path / ".thumbnails" / "0.png", 0)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.warns(UserWarning, match="passed over") as caught:
        files, _ = folders.load_folder(tmp_path)
    assert len(files[0]) == 4
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}: 4 images are read; passed over: 3 hidden, 2 .txt, "
        "1 pipes, sockets or devices, 1 without suffix"
    ]
