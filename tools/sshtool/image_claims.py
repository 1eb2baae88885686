"""The claims of an image file, read before decoding: the size of the picture, and the number of pieces.

Decoders create an object for each chunk, segment, comment and tag, and allocate the sizes in headers. This module
counts them in little memory, without decoding, and rejects counts that no camera or program writes. A malformed file
passes: its decoder gives the better message.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

# Pieces and bytes of a file beside its pixels. Layers, profiles and previews take a few MB in up to some thousand
# pieces.
MOST_PIECES: Final = 10_000
MOST_METADATA: Final = 32 << 20
MOST_JUNK: Final = 64 << 10  # bytes outside all segments or blocks
_BYTES_PER_PIECE: Final = 1024  # of pixels; usual pieces have some kilobytes
# The decoder joins the EXIF segments of a JPEG again for each. Usual files have up to a few hundred segments.
MOST_SEGMENTS: Final = 1024
# Pieces of a byte or none that cost memory in the decoder.
MOST_BLOCKS: Final = 100_000  # of a GIF's comments
MOST_ICONS: Final = 256  # in an icon file
MOST_NUMBERS: Final = 200_000  # in one tag; a palette of 16 bits has as many
MOST_TILES: Final = 10_000  # of JPEG 2000, which its decoder allocates at once
MOST_TILE: Final = 1 << 22  # pixels of a TIFF tile, which may be larger than the picture
MOST_PACKED: Final = 16  # packed texts and profiles, each of which unpacks to at most a megabyte
MOST_DESCRIPTION: Final = 1 << 20  # bytes that describe AVIF pictures; usual are hundreds to some thousand
MOST_SLOW: Final = 1 << 24  # pixels and bytes that Pillow decodes in Python, at a microsecond each

_BLOCK: Final = 1 << 16

_PLAIN: Final = 4  # bytes of a pixel in Pillow, beside the file and the result; some decoders add a copy
_ROWS: Final = 2 * 4  # bytes of two rows per column


@dataclass
class Claims:
    """Pillow's names of the possible formats, the size of the picture, and the cost of decoding.

    `pixel_bytes` is the decoder's memory per pixel, `beside` its other memory in bytes, `scans` the number of passes
    over all pixels.
    """

    formats: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    pixel_bytes: int = _PLAIN
    beside: int = 0
    scans: int = 1
    _seen: int = field(default=0, repr=False)

    def allow(self, width: int, height: int) -> None:
        """Raise the claimed size to that of another picture in the file."""
        self.width, self.height = max(self.width, width), max(self.height, height)

    def count(self, pieces: str, most: int) -> None:
        """Count one more piece. Raises ValueError for more than `most`."""
        self._seen += 1
        if self._seen > most:
            raise ValueError(f"it has more than {most} {pieces}")

    def add(self, size: int) -> None:
        """Add bytes beside the pixels. Raises ValueError for too many."""
        self.beside += size
        if self.beside > MOST_METADATA:
            raise ValueError(f"it has more than {MOST_METADATA} bytes beside its pixels")


def read_claims(file: BinaryIO, size: int) -> Claims:
    """The claims of an image file of `size` bytes. `formats` is empty for an unknown format.

    Raises ValueError for claims of no usual file.
    """
    bytes_ = _Bytes(file, size)
    claims = Claims()
    with contextlib.suppress(_CutOffError):  # the decoder reports it
        for accepts, formats, examine in _FORMATS:
            if accepts(bytes_.at(0, min(size, 32))):
                claims.formats = formats
                examine(bytes_, claims)
                break
    claims.beside += _ROWS * claims.width
    return claims


class _CutOffError(Exception):
    """The file ends before the end of a piece."""


class _Bytes:
    """A file with random access to small pieces."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size

    def at(self, place: int, count: int) -> bytes:
        if place + count > self.size:
            raise _CutOffError
        self._file.seek(place)
        data = self._file.read(count)
        if len(data) < count:
            raise _CutOffError
        return data

    def number(self, place: int, form: str) -> int:
        """The number at a place, in a format of `struct`."""
        return int(struct.unpack(form, self.at(place, struct.calcsize(form)))[0])

    def markers(self, place: int, pattern: re.Pattern[bytes]) -> tuple[int, int] | None:
        """Find the next marker of two bytes: its second byte, and the place after it."""
        while place < self.size - 1:
            block = self.at(place, min(_BLOCK, self.size - place))
            if match := pattern.search(block):
                return match[0][-1], place + match.end()
            place += len(block) - 1  # the last byte may be the first of a marker
        return None

    def inside(self, place: int, size: int) -> _Bytes:
        return _Bytes(io.BytesIO(self.at(place, size)), size)


# --- PNG --------------------------------------------------------------------------------------------------------------

_PNG: Final = b"\x89PNG\r\n\x1a\n"


def _examine_png(data: _Bytes, claims: Claims, place: int = 0) -> None:
    place += len(_PNG)
    pixels, packed = 0, 0
    while True:
        length, chunk = struct.unpack(">I4s", data.at(place, 8))
        place += 12 + length
        if chunk == b"IEND":
            return
        if chunk in (b"IDAT", b"fdAT"):
            pixels += 1
            if pixels > MOST_PIECES + data.size // _BYTES_PER_PIECE:
                raise ValueError(f"it has more than {pixels - 1} chunks of pixels")
            continue
        if chunk == b"IHDR":
            claims.allow(*struct.unpack(">2I", data.at(place - length - 4, 8)))
        packed += chunk in (b"zTXt", b"iTXt", b"iCCP")
        if packed > MOST_PACKED:
            raise ValueError(f"it has more than {MOST_PACKED} chunks of packed text")
        claims.count("chunks beside its pixels", MOST_PIECES)
        claims.add(length)


# --- JPEG -------------------------------------------------------------------------------------------------------------

# Markers of Pillow and libjpeg before the first scan (some have no length), and after it.
_HEAD_MARKER: Final = re.compile(rb"\xff[\xc0-\xfe]", re.DOTALL)
_SCAN_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]", re.DOTALL)
_LENGTHLESS: Final = frozenset((0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


def _examine_jpeg(data: _Bytes, claims: Claims) -> None:
    claims.scans, place, junk, samples = 0, 2, 0, 1.0
    while match := data.markers(place, _SCAN_MARKER if claims.scans else _HEAD_MARKER):
        marker, end = match
        if not claims.scans:
            junk += end - 2 - place
            if junk > MOST_JUNK:
                raise ValueError(f"it has more than {MOST_JUNK} bytes between its segments")
            claims.count("segments", MOST_SEGMENTS)
        elif marker == _END:
            break
        place = end
        if marker in _LENGTHLESS:
            continue
        length = data.number(place, ">H")
        if marker in _FRAMES:
            height, width, components = struct.unpack(">2HB", data.at(place + 3, 5))
            claims.allow(width, height)
            samples = max(samples, _samples(data.at(place + 8, 3 * components)))
        if marker == _SCAN:
            claims.scans += 1
        elif not claims.scans:
            claims.add(length)
        place += length
    if claims.scans > 1:  # the decoder keeps all coefficients, of two bytes each, until the last scan
        claims.pixel_bytes += math.ceil(2 * samples)


def _samples(components: bytes) -> float:
    """Samples per pixel of a JPEG: 3, or 1.5 with colours at half height and width."""
    factors = [(byte >> 4, byte & 15) for byte in components[1::3]]
    most = max((across for across, _ in factors), default=1) * max((down for _, down in factors), default=1)
    return sum(across * down for across, down in factors) / max(most, 1)


# --- GIF --------------------------------------------------------------------------------------------------------------


def _examine_gif(data: _Bytes, claims: Claims) -> None:
    """Read up to the first picture."""
    claims.allow(*struct.unpack("<2H", data.at(6, 4)))
    flags = data.at(10, 1)[0]
    place, junk = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while (block := data.at(place, 1)) != b",":
        place += 1
        if block == b";":
            return
        if block != b"!":
            junk += 1
            if junk > MOST_JUNK:
                raise ValueError(f"it has more than {MOST_JUNK} bytes between its blocks")
            continue
        place += 1
        length = 1
        while length:
            length = data.at(place, 1)[0]
            claims.count("blocks before its picture", MOST_BLOCKS)
            claims.add(length)
            place += 1 + length
    left, top, width, height = struct.unpack("<4H", data.at(place + 1, 8))
    claims.allow(left + width, top + height)


# --- TIFF, also inside EXIF -------------------------------------------------------------------------------------------

_TIFF: Final = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTES: Final = (1, 2, 6, 7)
_DIRECTORIES: Final = (34665, 34853, 40965)  # directories of EXIF, GPS and interoperability
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_ORIENTATION, _SAMPLES, _ROWS_PER_STRIP = 274, 277, 278


def _examine_tiff(data: _Bytes, claims: Claims) -> None:
    sizes = _examine_tags(data, claims)
    claims.allow(sizes.get(_WIDTH, 0), sizes.get(_HEIGHT, 0))
    claims.pixel_bytes += 4 if sizes.get(_ORIENTATION, 1) != 1 else 0  # Pillow makes an upright copy
    across = sizes.get(_TILE_WIDTH, claims.width)
    down = sizes.get(_TILE_HEIGHT, min(sizes.get(_ROWS_PER_STRIP, claims.height), claims.height))
    if across * down > max(MOST_TILE, claims.width * claims.height):
        raise ValueError(f"it has tiles of {across}x{down} pixels")
    claims.beside += across * down * max(4, 2 * min(sizes.get(_SAMPLES, 1), 4))


def check_exif(exif: bytes) -> None:
    """Check the tags of EXIF, with or without the leading "Exif". Raises ValueError for too many or too large tags."""
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:4] in _TIFF:
        with contextlib.suppress(_CutOffError):  # Pillow reads the complete tags
            _examine_tags(_Bytes(io.BytesIO(exif), len(exif)), Claims())


def _examine_tags(data: _Bytes, claims: Claims) -> dict[int, int]:
    """Count the tags of the first directory and of EXIF's. Returns the integers of the first directory by tag."""
    order = "<" if data.at(0, 2) == b"II" else ">"
    big = 43 in data.at(2, 2)
    first = data.number(8, f"{order}Q") if big else data.number(4, f"{order}I")
    integers: dict[int, int] = {}
    queue, seen, total = [first], set(), 0
    while queue:
        place = queue.pop()
        if place in seen:
            continue
        seen.add(place)
        try:
            for tag, value_type, count, value in _entries(data, place, order, big=big):
                claims.count("tags", MOST_PIECES)
                size = count * _SIZES.get(value_type, 0)
                if value_type not in _BYTES and size and count > MOST_NUMBERS:
                    raise ValueError(f"its tag {tag} has {count} numbers")
                total += size if size > len(value) else 0
                if count == 1 and value_type in (3, 4, 13, 16, 18):
                    number = int.from_bytes(value[:size], "little" if order == "<" else "big")
                    queue += [number] if tag in _DIRECTORIES else []
                    if place == first:
                        integers.setdefault(tag, number)
        except _CutOffError:
            if place == first:
                raise
    if total > data.size + MOST_JUNK:  # a few broken tags are harmless
        raise ValueError(f"its tags hold {total} bytes, the file has {data.size}")
    claims.beside += 2 * total
    return integers


def _entries(data: _Bytes, place: int, order: str, *, big: bool) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield tag, type, count and value field of each entry of a directory."""
    count_form, form, size = ("Q", "2HQ8s", 20) if big else ("H", "2HI4s", 12)
    count = data.number(place, order + count_form)
    place += struct.calcsize(count_form)
    for number in range(count):
        yield struct.unpack(order + form, data.at(place + number * size, size))


# --- WebP -------------------------------------------------------------------------------------------------------------


def _examine_webp(data: _Bytes, claims: Claims) -> None:
    claims.pixel_bytes += 12  # two canvases and the result
    claims.beside += 3 * data.size  # the decoder copies the file
    place = 12
    while place + 8 <= data.size:
        chunk, length = struct.unpack("<4sI", data.at(place, 8))
        claims.count("chunks", MOST_PIECES)
        if chunk == b"VP8X":
            sizes = data.at(place + 12, 6)
            claims.allow(int.from_bytes(sizes[:3], "little") + 1, int.from_bytes(sizes[3:], "little") + 1)
        elif chunk == b"VP8 ":
            width, height = struct.unpack("<2H", data.at(place + 14, 4))
            claims.allow(width & 0x3FFF, height & 0x3FFF)
        elif chunk == b"VP8L":
            bits = data.number(place + 9, "<I")
            claims.allow((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        place += 8 + length + length % 2


# --- JPEG 2000 --------------------------------------------------------------------------------------------------------

_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_SIZE, _TILE_PART, _TILE_DATA, _STREAM_END = 0xFF51, 0xFF90, 0xFF93, 0xFFD9
_TILE_MEMORY: Final = 16 << 10


def _examine_jp2(data: _Bytes, claims: Claims) -> None:
    for box, place, end in _boxes(data, 0, data.size, claims):
        if box == b"jp2h":
            _check_description(end - place)
            for inner, at, _ in _boxes(data, place, end, claims):
                if inner == b"ihdr":
                    height, width = struct.unpack(">2I", data.at(at, 8))
                    claims.allow(width, height)
        elif box == b"jp2c":
            _examine_codestream(data, claims, place)
            return


def _examine_codestream(data: _Bytes, claims: Claims, place: int = 0) -> None:
    claims.beside += 2 * data.size
    place += 2
    part = end = 0
    while place + 4 <= data.size:
        marker, length = struct.unpack(">2H", data.at(place, 4))
        claims.count("segments", MOST_PIECES + data.size // _BYTES_PER_PIECE)
        if marker == _SIZE:
            _examine_size(data, claims, place + 6)
        elif marker == _TILE_PART:
            part, end = place, data.number(place + 6, ">I")
        elif marker == _TILE_DATA:
            if not end:  # it reaches to the end of the file
                return
            place = part + end
            if end < 14:
                raise ValueError("a part of a tile has no length")
            continue
        elif marker == _STREAM_END or marker < 0xFF00:
            return
        place += 2 + length


def _examine_size(data: _Bytes, claims: Claims, place: int) -> None:
    right, bottom, left, top, across, down, left_tile, top_tile, components = struct.unpack(">8IH", data.at(place, 34))
    claims.allow(max(0, right - left), max(0, bottom - top))
    if components > 4 or not across or not down:
        raise ValueError(f"it has {components} components, and tiles of {across}x{down} pixels")
    tiles = -(-(right - left_tile) // across) * -(-(bottom - top_tile) // down)
    if tiles > MOST_TILES:
        raise ValueError(f"it has {tiles} tiles")
    claims.pixel_bytes += 8 * components  # 32 bits in the picture and in its tiles
    claims.beside += _TILE_MEMORY * tiles


# --- AVIF -------------------------------------------------------------------------------------------------------------

_AVIF: Final = (b"avif", b"avis", b"mif1", b"msf1")
# Boxes that contain boxes, and the number of bytes before the first.
_NESTED: Final = {b"meta": 4} | dict.fromkeys((b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl"), 0)
_CODED: Final = 1 << 20
_MOST_UNITS: Final = 1000
_SEQUENCE: Final = 1


def _examine_avif(data: _Bytes, claims: Claims) -> None:
    claims.pixel_bytes += 16  # planes of up to 16 bits, those of the previous frame, and the result
    claims.beside += 3 * data.size  # the decoder copies the file
    coded, inside, queue = [], 0, [(0, data.size)]
    while queue:
        for box, place, end in _boxes(data, *queue.pop(), claims):
            if box in (b"meta", b"moov"):
                _check_description(end - place)
            if box in _NESTED:
                queue.append((place + _NESTED[box], end))
            elif box == b"ispe":
                claims.allow(*struct.unpack(">2I", data.at(place + 4, 8)))
            elif box == b"idat":
                inside = place
            elif box == b"iloc":
                coded += list(_items(data, place, claims))
            elif box in (b"stco", b"co64") and data.number(place + 4, ">I"):
                coded.append((0, data.number(place + 8, ">I" if box == b"stco" else ">Q"), _CODED))
    for method, place, length in coded:
        start = place + (inside if method else 0)
        with contextlib.suppress(_CutOffError):
            _examine_av1(data.inside(start, max(0, min(length or _CODED, _CODED, data.size - start))), claims)


def _items(data: _Bytes, place: int, claims: Claims) -> Iterator[tuple[int, int, int]]:
    """Yield the construction method (1: relative to the idat box), offset and length of the extents of all items."""
    version, sizes = data.number(place, ">B"), data.number(place + 4, ">H")
    widths = [sizes >> shift & 15 for shift in (12, 8, 4, 0)]  # of offsets, lengths, base offsets and indices
    id_size = 4 if version == 2 else 2
    count = int.from_bytes(data.at(place + 6, id_size), "big")
    place += 6 + id_size

    def take(width: int) -> int:
        nonlocal place
        place += width
        return int.from_bytes(data.at(place - width, width), "big")

    for _ in range(count):
        take(id_size)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(widths[2])
        for _ in range(take(2)):
            claims.count("boxes", MOST_PIECES)
            if version:
                take(widths[3])
            yield method, base + take(widths[0]), take(widths[1])


def _examine_av1(data: _Bytes, claims: Claims) -> None:
    """Read the size of the frames: a decoder allocates them before it compares them with the boxes' sizes."""
    place = 0
    for _ in range(_MOST_UNITS):
        head = data.number(place, ">B")
        unit, place = head >> 3 & 15, place + 1 + (head >> 2 & 1)
        length = shift = 0
        while head & 2:
            byte = data.number(place, ">B")
            length, shift, place = length | (byte & 127) << shift, shift + 7, place + 1
            if not byte & 128 or shift > 56:
                break
        if unit == _SEQUENCE:
            claims.allow(*_frame_size(_Bits(data.at(place, min(64, data.size - place)))))
        if not head & 2 or head & 128:
            return
        place += length


class _Bits:
    """A reader of numbers of any bit length."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise _CutOffError
        return self._value >> self._left & (1 << count) - 1


def _frame_size(bits: _Bits) -> tuple[int, int]:
    """The largest width and height of AV1's frames, from the sequence header (section 5.5 of the specification)."""
    bits.take(4)  # profile, and whether it is a still picture
    if bits.take(1):  # reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(across) + 1, bits.take(down) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(zeros)
        if bits.take(1):  # decoder model
            delay = bits.take(5) + 1
            bits.take(42)
    shown = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay and bits.take(1):
            bits.take(2 * delay + 1)
        if shown and bits.take(1):
            bits.take(4)


def _check_description(size: int) -> None:
    if size > MOST_DESCRIPTION:
        raise ValueError(f"it describes its pictures in more than {MOST_DESCRIPTION} bytes")


def _boxes(data: _Bytes, place: int, end: int, claims: Claims) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box between `place` and `end`."""
    while place + 8 <= end:
        length, box = struct.unpack(">I4s", data.at(place, 8))
        inner = place + 8
        if length == 1:
            length, inner = data.number(inner, ">Q"), inner + 8
        after = place + length if length else end
        if after < inner:
            raise _CutOffError
        claims.count("boxes", MOST_PIECES)
        yield box, inner, min(after, end)
        place = after


# --- BMP, icons, and formats of a header and pixels -------------------------------------------------------------------

_DIB_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)
_RUNS: Final = (1, 2)  # run-length encodings, which Pillow decodes in Python


def _examine_dib(data: _Bytes, claims: Claims, place: int = 0) -> None:
    header = data.number(place, "<I")
    if header == _DIB_HEADERS[0]:
        claims.allow(*struct.unpack("<2H", data.at(place + 4, 4)))
        return
    width, height = struct.unpack("<2i", data.at(place + 4, 8))
    claims.allow(abs(width), abs(height))
    if data.number(place + 16, "<I") in _RUNS:
        _check_slow(abs(width) * abs(height))


def _examine_ico(data: _Bytes, claims: Claims) -> None:
    count = data.number(4, "<H")
    if count > MOST_ICONS:
        raise ValueError(f"it has {count} icons")
    claims.pixel_bytes += 12  # the picture with and without its mask
    for number in range(count):
        width, height, *_, place = struct.unpack("<4B2H2I", data.at(6 + 16 * number, 16))
        claims.allow(width or 256, height or 256)
        if data.at(place, 8) == _PNG:
            _examine_png(data, claims, place)
        else:
            _examine_dib(data, claims, place)


_TGA_KINDS: Final = (1, 2, 3, 9, 10, 11)
_TGA_DEPTHS: Final = (1, 8, 16, 24, 32)


def _examine_headless(data: _Bytes, claims: Claims) -> None:
    """A DIB or a TGA, which have no signature."""
    _, colours, image_type, *_, width, height, depth = struct.unpack("<3B2HB4HB", data.at(0, 17))
    if colours in (0, 1) and image_type in _TGA_KINDS and depth in _TGA_DEPTHS:
        claims.allow(width, height)
    if data.number(0, "<I") in _DIB_HEADERS:
        _examine_dib(data, claims)


# Type, width, height and (except for bitmaps) the largest value, separated by blanks and comments.
_BETWEEN: Final = rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])+"
_PNM: Final = re.compile(
    rb"(P\w{1,6})" + _BETWEEN + rb"(\d{1,10})" + _BETWEEN + rb"(\d{1,10})" + rb"(?:" + _BETWEEN + rb"(\d{1,10})\s)?"
)
_BITMAPS: Final = (b"P1", b"P4")
_TEXTS: Final = (b"P1", b"P2", b"P3")
_QUICK: Final = {b"P5": (255, 65535), b"P6": (255,)}


def _examine_pnm(data: _Bytes, claims: Claims) -> None:
    header = _PNM.match(data.at(0, min(data.size, MOST_JUNK)))
    if header is None:
        raise ValueError("it does not begin with the size of a picture")
    magic, width, height, largest = header.groups()
    claims.allow(int(width), int(height))
    if magic in _TEXTS or (magic not in _BITMAPS and int(largest or 255) not in _QUICK.get(magic, (255,))):
        claims.pixel_bytes += 8
        _check_slow(max(int(width) * int(height), data.size // 16 if magic in _TEXTS else 0))


def _check_slow(count: int) -> None:
    if count > MOST_SLOW:
        raise ValueError(f"it has {count} pixels of a kind that is decoded slowly")


def _begins(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(beginnings)


_FORMATS: Final[tuple[tuple[Callable[[bytes], bool], tuple[str, ...], Callable[[_Bytes, Claims], None]], ...]] = (
    (_begins(_PNG), ("PNG",), _examine_png),
    (_begins(b"\xff\xd8\xff"), ("JPEG",), _examine_jpeg),
    (_begins(b"GIF87a", b"GIF89a"), ("GIF",), _examine_gif),
    (_begins(*_TIFF), ("TIFF",), _examine_tiff),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", ("WEBP",), _examine_webp),
    (_begins(_JP2), ("JPEG2000",), _examine_jp2),
    (_begins(_CODESTREAM), ("JPEG2000",), _examine_codestream),
    (lambda data: data[4:8] == b"ftyp" and data[8:12] in _AVIF, ("AVIF",), _examine_avif),
    (_begins(b"BM"), ("BMP",), lambda data, claims: _examine_dib(data, claims, 14)),
    (_begins(b"\0\0\1\0"), ("ICO",), _examine_ico),
    (lambda data: re.match(rb"P[0-6fy]", data) is not None, ("PPM",), _examine_pnm),
    (lambda _: True, ("DIB", "TGA"), _examine_headless),
)
