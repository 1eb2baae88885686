"""Whether a video file ends before its outermost element does, as after a broken download.

FFmpeg reads MP4, Matroska and AVI as far as they go, and does not say that the rest is missing.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from sshconvert.reading import state

_HEAD: Final = 16  # bytes: the longest head of an MP4 box, and of Matroska's elements
_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_MOST_BOXES: Final = 100_000  # a fragmented recording of a day has two each second


def missing_bytes(file: BinaryIO) -> int:
    """Return how many bytes the file lacks by the sizes that its outermost elements state; 0 if it is unknown.

    Sources: ISO/IEC 14496-12, 4.2 (boxes); RFC 8794, sections 4 and 6 (EBML); Microsoft's RIFF (AVI).
    """
    size = state(file)[0]
    head = _read(file, 0)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        end = _end_of_boxes(file, size)
    elif head.startswith(b"RIFF"):
        end = 8 + int.from_bytes(head[4:8], "little")
    elif int.from_bytes(head[:4], "big") == _EBML:
        end = _end_of_segment(file)
    else:
        return 0
    return max(0, end - size)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    start = 0
    for _ in range(_MOST_BOXES):
        if start + 8 > size:
            break
        head = _read(file, start)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == _HEAD:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end of the file
            break
        start += length
    return start


def _end_of_segment(file: BinaryIO) -> int:
    head = _read(file, 0)
    start = 4 + _width(head[4:])
    start += _length(head[4:]) or 0
    segment = _read(file, start)
    if int.from_bytes(segment[:4], "big") != _SEGMENT:
        return 0
    length = _length(segment[4:])
    return 0 if length is None else start + 4 + _width(segment[4:]) + length


def _width(data: bytes) -> int:
    """The number of bytes of a variable-size integer: 1 and the zero bits before its first one."""
    return 9 - data[0].bit_length() if data else 0


def _length(data: bytes) -> int | None:
    """The value of a variable-size integer, or None if it says unknown, as in a live recording."""
    width = _width(data)
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return None if len(data) < width or value == (1 << 7 * width) - 1 else value


def _read(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read(_HEAD)
