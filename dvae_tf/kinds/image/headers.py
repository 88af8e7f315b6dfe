"""What PNG and JPEG files say of themselves, read without decoding them.

A decoder trusts its file: a few kilobytes can decode to gigabytes, or keep it busy for minutes. So
`plain` reads the headers first. It refuses what the model cannot take, and what the decoder would
not apply. Only these two formats are read, by their signatures.

The exported graph does the same in `headers_in_graph`; both use the limits and messages below.
"""

import re
import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
IEND = b"\0\0\0\0IEND\xaeB`\x82"

# Chunks of a PNG that say what its pixels mean. The others never reach the decoder: compressed text
# of 16 MB would take it two minutes.
KEPT = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP")
KEPT_BYTES = 4096
COLOURS = (0, 2, 3, 4, 6)  # colour types of PNGs
_FRAMES = (0xC0, 0xC1, 0xC2)  # JPEGs that are baseline, extended or progressive
MAX_SEGMENTS = 512
MAX_SCANS = 64
# Pixels of all images in one request, for a model of images of any size.
MAX_PIXELS = 2**22

# An entry of EXIF's first directory: the orientation, other than 1, in either order of bytes.
TURNED = (
    r"(?s)(?:\C{12})*?(?:\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08]"
    r"|\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]\x00)\C*"
)
_TURNED = re.compile(TURNED.replace(r"\C", ".").encode("ascii"))

FORMAT = "PNG or JPEG files"
SIZE = "images of {width} x {height} pixels"
PIXELS = f"images of up to {MAX_PIXELS} pixels, in all rows together"
UNDAMAGED = "files that are not damaged"
EIGHT_BITS = (
    "images of 8 bits a channel: convert them from 16 bits, or from a palette of 1 to 4 bits"
)
UPRIGHT = "upright images: turn the pixels as the EXIF orientation says, and remove it"
NO_CMYK = "grey or RGB images: convert them from CMYK"
ALPHA = "PNG files, because a JPEG has no alpha channel"
OPAQUE = "opaque images: put transparent ones on a background"
CHUNKS = "files with few chunks: save the image again without metadata"
SCANS = f"JPEG files with up to {MAX_SCANS} scans: save the image again"


def plain(content: bytes, height: int, width: int, channels: int) -> bytes:
    """Return a file of such an image, for the decoder.

    Raises:
        ValueError: if it is not a file that the decoder reads as every viewer does. The message says
            what files must hold.
    """
    if content.startswith(PNG):
        return _plain_png(content, height, width, channels)
    if content.startswith(JPEG):
        if channels == 4:
            raise ValueError(ALPHA)
        _check_jpeg(content, height, width)
        return content
    raise ValueError(FORMAT)


def size(content: bytes) -> tuple[int, int]:
    """Return the height and width that a file gives its image, for `plain`.

    Raises:
        ValueError: if they cannot be read, or are too large. The message says what files must hold.
    """
    if content.startswith(PNG):
        if len(content) < 33 or content[8:16] != b"\0\0\0\rIHDR":
            raise ValueError(UNDAMAGED)
        width, height = struct.unpack(">II", content[16:24])
    elif content.startswith(JPEG):
        _, height, width, _ = struct.unpack(">BHHB", _frame(content)[0][:6])
    else:
        raise ValueError(FORMAT)
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f"{PIXELS}: received {width} x {height}")
    return height, width


def max_chunks(height: int, width: int) -> int:
    """Return how many chunks a PNG of this size may have."""
    return 256 + height * width // 64


def max_compressed(height: int, width: int) -> int:
    """Return how many bytes the chunks of pixels of a PNG may have: compression may add a little."""
    return _max_bytes(height, width) + 1024


def _max_bytes(height: int, width: int) -> int:
    """Return a limit for the bytes of pixels: four a pixel, a filter a row, twice if interlaced."""
    return 2 * height * (1 + 4 * width)


def _plain_png(content: bytes, height: int, width: int, channels: int) -> bytes:
    header = content[:33]
    if len(header) < 33 or header[8:16] != b"\0\0\0\rIHDR":
        raise ValueError(UNDAMAGED)
    w, h, depth, colour = struct.unpack(">IIBB", header[16:26])
    _check_size(w, h, width, height)
    if depth > 8 or (channels == 4 and depth < 8):
        raise ValueError(EIGHT_BITS)
    if colour not in COLOURS:
        raise ValueError(UNDAMAGED)
    kept, pixels, exif, last = b"", b"", b"", b""
    stream = b""
    for count, (kind, chunk) in enumerate(_chunks(content)):
        if count == max_chunks(height, width):
            raise ValueError(CHUNKS)
        if kind == b"IDAT":
            if pixels and last != b"IDAT":
                raise ValueError(UNDAMAGED)
            pixels += chunk
            stream += chunk[8:-4]
            if len(pixels) > max_compressed(height, width):
                raise ValueError(UNDAMAGED)
        elif kind in KEPT and max(len(chunk) - 12, len(kept)) <= KEPT_BYTES:
            kept += chunk
        elif kind == b"eXIf":
            exif = exif or chunk[8:-4]
        last = kind
    if last != b"IEND" or not pixels:
        raise ValueError(UNDAMAGED)
    _check_pixels(stream, height, width)
    if _is_turned(exif):
        raise ValueError(UPRIGHT)
    return header + kept + pixels + IEND


def _check_pixels(stream: bytes, height: int, width: int) -> None:
    """Refuse more pixels than the image has: a thousand times the file's size, at worst."""
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(stream, _max_bytes(height, width))
    except zlib.error:
        raise ValueError(UNDAMAGED) from None
    if inflate.unconsumed_tail:
        raise ValueError(UNDAMAGED)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and bytes of the chunks after the header, up to the last or the first damaged one."""
    start = 33
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        if end > len(content):
            return
        kind = content[start + 4 : start + 8]
        yield kind, content[start:end]
        if kind == b"IEND":
            return
        start = end


def _check_jpeg(content: bytes, height: int, width: int) -> None:
    """Check what the segments say, and count the scans."""
    frame, exif, start = _frame(content)
    precision, h, w, components = struct.unpack(">BHHB", frame[:6])
    _check_size(w, h, width, height)
    if precision != 8:
        raise ValueError(EIGHT_BITS)
    if components not in (1, 3):
        raise ValueError(NO_CMYK)
    if _is_turned(exif):
        raise ValueError(UPRIGHT)
    if content.count(b"\xff\xda", start) > MAX_SCANS:
        raise ValueError(SCANS)


def _frame(content: bytes) -> tuple[bytes, bytes, int]:
    """Follow the segments of a JPEG; return its frame, its EXIF data, and the place of the scan."""
    start, exif, frame = 2, b"", b""
    for _ in range(MAX_SEGMENTS):
        if start + 4 > len(content) or content[start] != 0xFF:
            raise ValueError(UNDAMAGED)
        marker = content[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", content, start + 2)
        segment = content[start + 4 : start + 2 + length]
        if marker in _FRAMES and not frame:
            frame = segment
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif = exif or segment[6:]
        start += 2 + length
    else:
        raise ValueError(CHUNKS)
    if len(frame) < 6:
        raise ValueError(UNDAMAGED)
    return frame, exif, start


def _check_size(w: int, h: int, width: int, height: int) -> None:
    if (w, h) != (width, height):
        raise ValueError(f"{SIZE.format(width=width, height=height)}: received {w} x {h}")


def _is_turned(exif: bytes) -> bool:
    """Return whether EXIF data, which are a TIFF, give an orientation other than upright."""
    order = "<" if exif[:2] == b"II" else ">"
    if len(exif) < 8:
        return False
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return False
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    entries = exif[start + 2 : start + 2 + 12 * count]
    return _TURNED.fullmatch(entries) is not None
