"""PNG files beyond Pillow: chunks as they are, and 16 bits a channel in colour or with transparency.

Pillow reads such files with 8 bits. Its decoder has the lower eight, too: it is called twice.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks before the pixels that say what values mean, and how large a pixel is.
KEPT = (b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"pHYs")
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # samples a pixel -> colour type
_SAMPLES = {colour: samples for samples, colour in _COLOUR_TYPES.items()}
_MAX_CHUNK = 2**24
# Colour type -> Pillow's names for the high and the low bytes of such pixels.
_HALVES = {2: ("RGB;16B", "RGB;16L"), 6: ("RGBA;16B", "RGBA;16L")}


def read_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Return IHDR, tRNS and the chunks in `KEPT` before the pixels of a PNG file."""
    found: dict[bytes, bytes] = {}
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] in (b"IHDR", b"tRNS", *KEPT) and length <= _MAX_CHUNK:
            found.setdefault(head[4:], file.read(length))
            file.seek(4, 1)  # checksum
        else:
            file.seek(length + 4, 1)
    return found


def is_deep(header: bytes) -> bool:
    """Return whether IHDR says 16 bits a channel."""
    return header[8] == 16


def samples(header: bytes) -> int:
    """Return the values of a pixel, transparency included, that IHDR of a deep file says."""
    return _SAMPLES[header[9]]


def decode(file: BinaryIO, header: bytes) -> np.ndarray:
    """Decode a file of 16 bits a channel, whose IHDR is `header`: uint16 [H, W, samples].

    Raises:
        Exception: any of Pillow's, if the file is damaged.
    """
    colour = header[9]
    if colour == 0:  # Pillow reads these: in mode I;16, or I before 10.3
        return _decoded(file, None).astype(np.uint16)[..., None]
    if colour == 4:  # four bytes a pixel, as RGBA has
        parts = _decoded(file, "RGBA").astype(np.uint16)
        return parts[..., ::2] << 8 | parts[..., 1::2]
    high, low = (_decoded(file, layout) for layout in _HALVES[colour])
    return high.astype(np.uint16) << 8 | low


def _decoded(file: BinaryIO, layout: str | None) -> np.ndarray:
    """Decode the pixels, with bytes in Pillow's layout of this name; None leaves it to Pillow."""
    file.seek(0)
    with PIL.Image.open(file) as image:
        if layout is not None:
            tiles: Any = [(*tile[:3], layout) for tile in image.tile]
            image.tile = tiles
        return np.asarray(image)


def encode(pixels: np.ndarray) -> bytes:
    """Return a PNG file of pixels uint16 [H, W, 1 to 4]: grey or RGB, then alpha."""
    height, width, number = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    # Filter 2, "up": each byte less the one above it.
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[number], 0, 0, 0)
    body = zlib.compress(filtered.data, 6)
    return SIGNATURE + b"".join(
        _chunk(*each) for each in ((b"IHDR", header), *_split(body), (b"IEND", b""))
    )


def _split(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(body), 2**20):
        yield b"IDAT", body[start : start + 2**20]


def with_chunks(content: bytes, chunks: Mapping[bytes, bytes]) -> bytes:
    """Insert chunks into a PNG file, behind its header."""
    end = len(SIGNATURE) + 25  # IHDR has 13 bytes, its frame 12
    added = b"".join(_chunk(kind, data) for kind, data in chunks.items())
    return content[:end] + added + content[end:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
