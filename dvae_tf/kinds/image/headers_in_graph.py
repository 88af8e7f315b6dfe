"""What PNG and JPEG files say of themselves, read in a graph: `headers.plain`, for model servers.

TensorFlow's decoders allocate what a file asks for. A model server passes on whatever it receives, so
the exported graph itself bounds what it decodes. It does all that `headers` does, but for one thing:
it cannot tell how many bytes the compressed pixels inflate to, only limit their number.
"""

from typing import NamedTuple

import tensorflow as tf

from dvae_tf.kinds.image import headers

_KEPT = "|".join(kind.decode() for kind in headers.KEPT)
_COLOURS = "[" + "".join(rf"\x{colour:02x}" for colour in headers.COLOURS) + "]"


class File(NamedTuple):
    """A file for the decoder, and whether it may be decoded: scalar tensors."""

    content: tf.Tensor  # as `headers.plain` returns it
    is_png: tf.Tensor
    has_alpha: tf.Tensor  # whether a PNG has an alpha channel, or colours that are transparent
    reason: tf.Tensor  # what files must hold, where this one does not; empty for a good file
    num_pixels: tf.Tensor  # height times width, int64; 0 for a size that is refused


# A function of its own, so that it is traced once for each shape, however many models are exported.
@tf.function(autograph=False)
def read(content: tf.Tensor, height: int | None, width: int | None, channels: int) -> File:
    """Read a file of such an image: a scalar string. None takes any height and width."""
    is_png = _starts_with(content, headers.PNG)
    return tf.cond(
        is_png,
        lambda: _read_png(content, height, width, channels),
        lambda: _read_jpeg(content, height, width, channels),
    )


def _read_png(content, height: int | None, width: int | None, channels: int) -> File:
    # Reading beyond the end of a string is an error, so that short files get zeros behind them.
    padded = content + tf.constant(bytes(64))
    size = _size(content)
    header = tf.strings.substr(padded, 0, 33)
    image = _size_of_image(
        height, width, _integer(header, 20, tf.int32), _integer(header, 16, tf.int32)
    )
    max_chunks = headers.max_chunks(image.height, image.width)
    max_compressed = tf.cast(headers.max_compressed(image.height, image.width), tf.int64)

    # first, end: where the chunks of pixels begin and end.
    def more(start, count, kept, exif, first, end, last):
        is_open = (start + 12 <= size) & (last != b"IEND") & (count < max_chunks)
        return is_open & (last != b"")

    def chunk(start, count, kept, exif, first, end, last):
        length = tf.cast(_integer(padded, start, tf.int32), tf.int64)
        after = start + 12 + length
        is_complete = (length >= 0) & (after <= size)
        kind = tf.strings.substr(padded, start + 4, 4)
        is_pixels = kind == b"IDAT"
        # Pixels that were interrupted are damaged: an empty `last` ends the loop.
        is_good = is_complete & ~(is_pixels & (first > 0) & (last != b"IDAT"))
        is_small = tf.maximum(length, _size(kept))
        is_kept = (
            is_good & tf.strings.regex_full_match(kind, _KEPT) & (is_small <= headers.KEPT_BYTES)
        )
        is_exif = is_good & (kind == b"eXIf") & (exif == b"")
        return (
            after,
            count + 1,
            tf.strings.join([kept, _if(is_kept, padded, start, 12 + length)]),
            tf.strings.join([exif, _if(is_exif, padded, start + 8, length)]),
            tf.where(is_pixels & (first == 0), start, first),
            tf.where(is_pixels, after, end),
            tf.where(is_good, kind, b""),
        )

    start, zero = tf.constant(33, tf.int64), tf.constant(0, tf.int64)
    begin = (start, tf.constant(0), tf.constant(b""), tf.constant(b""), zero, zero, b"IHDR")
    begin = tf.nest.map_structure(tf.convert_to_tensor, begin)
    _, count, kept, exif, first, end, last = tf.while_loop(more, chunk, begin)
    depth, colour = tf.strings.substr(header, 24, 1), tf.strings.substr(header, 25, 1)
    depths = r"\x08" if channels == 4 else r"[\x00-\x08]"
    has_header = (tf.strings.substr(header, 8, 8) == b"\0\0\0\rIHDR") & (size >= 33)
    is_complete = (last == b"IEND") & (first > 0) & (end - first <= max_compressed)
    reason = _first_reason(
        (has_header, headers.UNDAMAGED),
        (image.is_good, image.required),
        (tf.strings.regex_full_match(depth, depths), headers.EIGHT_BITS),
        (tf.strings.regex_full_match(colour, _COLOURS), headers.UNDAMAGED),
        ((last == b"IEND") | (last == b"") | (count < max_chunks), headers.CHUNKS),
        (is_complete, headers.UNDAMAGED),
        (_is_upright(exif), headers.UPRIGHT),
    )
    pixels = _if(is_complete, padded, first, end - first)
    plain = tf.strings.join([header, kept, pixels, headers.IEND])
    has_alpha = tf.strings.regex_full_match(colour + kept, r"(?s)[\x04\x06]\C*|\C*tRNS\C*")
    return File(plain, tf.constant(True), has_alpha, reason, image.num_pixels)


def _read_jpeg(content, height: int | None, width: int | None, channels: int) -> File:
    padded = content + tf.constant(bytes(64))
    size = _size(content)

    def more(start, count, frame, exif, is_scan):
        return (start + 4 <= size) & (count < headers.MAX_SEGMENTS) & ~is_scan

    def segment(start, count, frame, exif, is_scan):
        marker = _byte(padded, start + 1)
        is_marker, is_padding = _byte(padded, start) == 0xFF, marker == 0xFF
        is_segment = is_marker & ~is_padding & (marker != 0xDA)
        length = tf.cast(_integer(padded, start + 2, tf.uint16), tf.int64)
        inside = tf.minimum(start + 4, size), tf.maximum(length - 2, 0)
        is_frame = is_segment & (marker >= 0xC0) & (marker <= 0xC2) & (frame == b"")
        is_exif = is_segment & (marker == 0xE1) & (exif == b"")
        is_exif &= tf.strings.substr(padded, start + 4, 6) == b"Exif\0\0"
        step = tf.where(is_padding, tf.constant(1, tf.int64), 2 + length)
        return (
            tf.where(is_marker, start + step, size + 1),  # what is no marker ends the loop
            count + 1,
            tf.strings.join([frame, _if(is_frame, padded, *inside)]),
            tf.strings.join([exif, _if(is_exif, padded, start + 10, tf.maximum(length - 8, 0))]),
            is_marker & (marker == 0xDA),
        )

    begin = (tf.constant(2, tf.int64), tf.constant(0), tf.constant(b""), tf.constant(b""))
    _, count, frame, exif, is_scan = tf.while_loop(more, segment, (*begin, tf.constant(False)))
    is_complete = is_scan & (_size(frame) >= 6)
    frame = frame + tf.constant(bytes(6))
    image = _size_of_image(
        height, width, _integer(frame, 1, tf.uint16), _integer(frame, 3, tf.uint16)
    )
    values = tf.io.decode_raw(content, tf.uint8)
    scans = tf.math.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA))
    reason = _first_reason(
        (_starts_with(content, headers.JPEG), headers.FORMAT),
        (tf.constant(channels != 4), headers.ALPHA),
        ((count < headers.MAX_SEGMENTS) | is_scan, headers.CHUNKS),
        (is_complete, headers.UNDAMAGED),
        (image.is_good, image.required),
        (tf.strings.substr(frame, 0, 1) == b"\x08", headers.EIGHT_BITS),
        (
            tf.strings.regex_full_match(tf.strings.substr(frame, 5, 1), r"[\x01\x03]"),
            headers.NO_CMYK,
        ),
        (_is_upright(exif), headers.UPRIGHT),
        (scans <= headers.MAX_SCANS, headers.SCANS),
    )
    return File(content, tf.constant(False), tf.constant(False), reason, image.num_pixels)


class _Size(NamedTuple):
    """The size of an image: scalar tensors, and 1 x 1 where it is refused."""

    height: tf.Tensor
    width: tf.Tensor
    num_pixels: tf.Tensor  # int64; 0 where it is refused
    is_good: tf.Tensor
    required: str  # what files must hold


def _size_of_image(height: int | None, width: int | None, h, w) -> _Size:
    """Check the size that a file gives its image, h x w: int32."""
    if height is not None and width is not None:
        is_good = (h == height) & (w == width)
        required = headers.SIZE.format(width=width, height=height)
    else:
        is_good = (h > 0) & (w > 0)
        product = tf.cast(h, tf.int64) * tf.cast(w, tf.int64)
        is_good &= product <= headers.MAX_PIXELS
        required = headers.PIXELS
    h, w = tf.where(is_good, h, 1), tf.where(is_good, w, 1)
    num_pixels = tf.where(is_good, tf.cast(h, tf.int64) * tf.cast(w, tf.int64), 0)
    return _Size(h, w, num_pixels, is_good, required)


def _is_upright(exif) -> tf.Tensor:
    """Return whether EXIF data, which are a TIFF, say nothing else than upright."""
    padded = exif + tf.constant(bytes(8))
    is_little = _starts_with(padded, b"II")

    def integer(position, dtype):
        big, little = (_integer(padded, position, dtype, order) for order in (False, True))
        return tf.cast(tf.where(is_little, little, big), tf.int64)

    size = _size(exif)
    start = integer(4, tf.int32)
    has_directory = (size >= 8) & (start >= 0) & (start + 2 <= size)
    start = tf.where(has_directory, start, 0)
    length = tf.minimum(12 * integer(start, tf.uint16), tf.maximum(size - start - 2, 0))
    entries = tf.strings.substr(padded, start + 2, length)
    return ~(has_directory & tf.strings.regex_full_match(entries, headers.TURNED))


def _first_reason(*checks) -> tf.Tensor:
    """Return the reason of the first check that fails, of pairs (passes, reason); or nothing."""
    reason = tf.constant("")
    for passes, message in reversed(checks):
        reason = tf.where(passes, reason, message)
    return reason


def _starts_with(content, start: bytes) -> tf.Tensor:
    return tf.strings.substr(content + tf.constant(bytes(len(start))), 0, len(start)) == start


def _if(condition, content, start, length) -> tf.Tensor:
    """Return part of a string, or an empty one."""
    return tf.strings.substr(content, *(tf.where(condition, x, 0) for x in (start, length)))


def _size(content) -> tf.Tensor:
    return tf.cast(tf.strings.length(content), tf.int64)


def _byte(content, position) -> tf.Tensor:
    return tf.cast(tf.io.decode_raw(tf.strings.substr(content, position, 1), tf.uint8)[0], tf.int32)


def _integer(content, position, dtype, little_endian: bool = False) -> tf.Tensor:
    """Return the integer at a position; beyond the end of the content there are zeros."""
    part = tf.strings.substr(content, position, dtype.size)
    value = tf.io.decode_raw(part, dtype, little_endian=little_endian)[0]
    return tf.cast(value, tf.int32) if dtype == tf.uint16 else value
