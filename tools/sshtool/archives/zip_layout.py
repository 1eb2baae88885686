"""A strict reader of zip files: it rejects archives that two tools could read differently.

A zip describes each member twice: in a header before the member, and in the directory at the end, to which the end
record points. Some tools read the headers, others the directory. This module requires that both agree, and that every
byte of the file belongs to a structure::

    file      = member* directory [end64 locator] end comment
    member    = header name extra data [descriptor]
    directory = (entry name extra comment)*

The layout follows PKWARE's APPNOTE 6.3, sections 4.3 to 4.5. `zipfile` is more lenient: it skips bytes before, between
and after members, takes names from extra fields (depending on its version), and ignores data beyond the stated size.
"""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

STORED: Final = 0
DEFLATED: Final = 8
LZMA: Final = 14

# Above the needs of any checkpoint's archive, and small enough for memory.
MOST_MEMBERS: Final = 1000
LARGEST_DIRECTORY: Final = 1 << 20

PIECE: Final = 1 << 20  # bytes to unpack at a time

_HEADER: Final = struct.Struct("<4s5H3I2H")
_ENTRY: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_LZMA_HEAD: Final = struct.Struct("<2sHBI")
_HEADER_SIGNATURE: Final = b"PK\x03\x04"
_ENTRY_SIGNATURE: Final = b"PK\x01\x02"
_END_SIGNATURE: Final = b"PK\x05\x06"
_END64_SIGNATURE: Final = b"PK\x06\x06"
_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"
_DESCRIPTOR_SIGNATURE: Final = b"PK\x07\x08"
_LONGEST_COMMENT: Final = 0xFFFF
_LONGEST_DESCRIPTOR: Final = 25  # one byte more than the longest valid one

UTF8: Final = 0x800  # flag: the name is UTF-8
_SIZES_FOLLOW: Final = 0x8  # flag: a descriptor after the data holds sizes and checksum

# Values that refer to the zip64 end record or the zip64 extra field.
_ELSEWHERE_16: Final = 0xFFFF
_ELSEWHERE_32: Final = 0xFFFFFFFF
_ZIP64: Final = 0x0001
UNICODE_NAME: Final = 0x7075

_LARGEST_DICTIONARY: Final = 16 << 20  # bytes, which LZMA allocates at once


class RefusedError(Exception):
    """The reason to reject an archive, without its path."""


@dataclass(frozen=True)
class Member:
    """A member as its directory entry and its header agree. Offsets and sizes are in bytes."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    checksum: int
    packed: int
    unpacked: int
    attributes: int
    header_offset: int
    data_offset: int
    extra: tuple[tuple[int, bytes], ...]  # of the directory and of the header


@dataclass(frozen=True)
class _Directory:
    offset: int
    length: int
    count: int


def read_members(file: BinaryIO) -> tuple[Member, ...]:
    """Read the members of a zip in file order. Raises RefusedError."""
    size = file.seek(0, os.SEEK_END)
    directory = _find_directory(file, size)
    entries = sorted(_read_directory(file, directory), key=lambda member: member.header_offset)
    if (entries[0].header_offset if entries else directory.offset) > 0:
        raise RefusedError("it does not begin with its first member")
    ends = [*(member.header_offset for member in entries), directory.offset][1:]
    return tuple(_with_header(file, member, end, directory) for member, end in zip(entries, ends, strict=True))


def stream(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Unpack a member piece by piece. Raises RefusedError if size or checksum differ from the directory's."""
    count = checksum = 0
    try:
        for piece in _unpacked(file, member):
            count += len(piece)
            if count > member.unpacked:
                break
            checksum = zlib.crc32(piece, checksum)
            yield piece
    except (zlib.error, lzma.LZMAError) as error:
        raise RefusedError(f"{member.name!r} cannot be unpacked ({error})") from None
    if count != member.unpacked:
        actual = "more" if count > member.unpacked else f"{count} bytes"
        raise RefusedError(f"{member.name!r} unpacks to {actual} instead of {member.unpacked} bytes")
    if checksum != member.checksum:
        raise RefusedError(f"{member.name!r} has checksum {checksum:08x} instead of {member.checksum:08x}")


def _find_directory(file: BinaryIO, size: int) -> _Directory:
    start = max(0, size - _END.size - _LONGEST_COMMENT)
    tail = _read(file, start, size - start)
    place = _find_end_record(tail)
    _, *disks, here, count, length, offset, _ = _END.unpack_from(tail, place)
    end = start + place
    locator = _read(file, max(0, end - _LOCATOR.size), min(end, _LOCATOR.size))
    if locator.startswith(_LOCATOR_SIGNATURE):
        end -= _LOCATOR.size + _END64.size
        narrow = (*disks, here, count, length, offset)
        *disks, here, count, length, offset = _read_end64(file, locator, end, narrow)
    if any(disks) or here != count:
        raise RefusedError("it is one part of an archive of several")
    if count > MOST_MEMBERS or length > LARGEST_DIRECTORY:
        raise RefusedError(f"it lists {count} members in {length} bytes, more than {MOST_MEMBERS} or too many bytes")
    if offset + length != end:
        raise RefusedError(f"its directory ends at {offset + length}, but its end record begins at {end}")
    return _Directory(offset, length, count)


def _find_end_record(tail: bytes) -> int:
    """Find the only end record whose comment reaches the end of the file: its offset in the file's last bytes."""
    offsets = []
    offset = tail.find(_END_SIGNATURE)
    while offset >= 0:
        if offset + _END.size <= len(tail):
            comment = _END.unpack_from(tail, offset)[-1]
            offsets += [offset] if offset + _END.size + comment == len(tail) else []
        offset = tail.find(_END_SIGNATURE, offset + 1)
    if not offsets:
        raise RefusedError("it has no end record, so it is cut off or has something behind it")
    if len(offsets) > 1 or _END_SIGNATURE in tail[offsets[0] + _END.size :]:
        raise RefusedError("it has several end records")
    return offsets[0]


def _read_end64(file: BinaryIO, locator: bytes, offset: int, narrow: Sequence[int]) -> Sequence[int]:
    """Read the 64-bit fields of `narrow`, the end record, from the zip64 end record at `offset`."""
    _, disk, located, disks = _LOCATOR.unpack(locator)
    record = _read(file, offset, _END64.size) if offset >= 0 else b""
    if (disk, located, disks) != (0, offset, 1) or not record.startswith(_END64_SIGNATURE):
        raise RefusedError("it has no zip64 end record at the place that its locator gives")
    _, length, _, _, *wide = _END64.unpack(record)
    if length != _END64.size - 12:
        raise RefusedError("its zip64 end record has another size than that of version 1")
    limits = (*[_ELSEWHERE_16] * 4, *[_ELSEWHERE_32] * 2)
    if any(small not in (large, limit) for small, large, limit in zip(narrow, wide, limits, strict=True)):
        raise RefusedError("its two end records differ")
    return wide


def _read_directory(file: BinaryIO, directory: _Directory) -> Iterator[Member]:
    data = _read(file, directory.offset, directory.length)
    position = 0
    for number in range(1, directory.count + 1):
        fixed = data[position : position + _ENTRY.size]
        if len(fixed) != _ENTRY.size or not fixed.startswith(_ENTRY_SIGNATURE):
            raise RefusedError(f"its directory has no entry {number} of the {directory.count} in its end record")
        lengths = _ENTRY.unpack(fixed)[10:13]
        position += _ENTRY.size
        texts = []
        for length in lengths:
            texts.append(data[position : position + length])
            position += length
        if position > len(data):
            raise RefusedError(f"entry {number} of its directory is cut off")
        yield _entry(fixed, texts[0], texts[1])
    if position != len(data):
        raise RefusedError(f"its directory has more than the {directory.count} members in its end record")


def _entry(fixed: bytes, raw_name: bytes, raw_extra: bytes) -> Member:
    _, _, _, flags, method, _, _, checksum, packed, unpacked, *_, disk, _, attributes, offset = _ENTRY.unpack(fixed)
    name = _decoded(raw_name, flags)
    extra = _fields(raw_extra, name)
    if disk:
        raise RefusedError(f"{name!r} is in another part of an archive of several")
    unpacked, packed, offset = _widened(extra, (unpacked, packed, offset), name)
    return Member(name, raw_name, flags, method, checksum, packed, unpacked, attributes, offset, 0, extra)


def _decoded(raw_name: bytes, flags: int) -> str:
    try:
        return raw_name.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise RefusedError(f"{raw_name!r} is no name in UTF-8") from None


def _fields(extra: bytes, name: str) -> tuple[tuple[int, bytes], ...]:
    """Split extra fields (tag, length, value). The fields that override sizes and names may occur once."""
    fields = []
    while extra:
        tag, length = struct.unpack_from("<2H", extra) if len(extra) >= 4 else (0, len(extra))
        value, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(value) != length:
            raise RefusedError(f"{name!r} has an extra field that is cut off")
        fields.append((tag, value))
    tags = [tag for tag, _ in fields]
    if max(tags.count(_ZIP64), tags.count(UNICODE_NAME)) > 1:
        raise RefusedError(f"{name!r} has the same extra field twice")
    return tuple(fields)


def _widened(
    extra: Sequence[tuple[int, bytes]], sizes: Sequence[int], name: str, *, all_or_none: bool = False
) -> Iterator[int]:
    """Yield the sizes, replacing those that do not fit by the values of the zip64 field, which holds no others.

    With `all_or_none`, as in a header, the field holds all sizes or none.
    """
    field = next((value for tag, value in extra if tag == _ZIP64), None)
    needed = [size == _ELSEWHERE_32 for size in sizes]
    if all_or_none and any(needed):
        needed = [True] * len(sizes)
    if len(field or b"") != 8 * sum(needed) or (field is not None and not any(needed)):
        raise RefusedError(f"{name!r} has sizes that are not in its zip64 field, or a zip64 field that nothing needs")
    wide = iter(struct.unpack(f"<{sum(needed)}Q", field or b""))
    for size, elsewhere in zip(sizes, needed, strict=True):
        value = next(wide) if elsewhere else size
        if size not in (value, _ELSEWHERE_32):
            raise RefusedError(f"{name!r} has size {size} in its header and {value} in its zip64 field")
        yield value


def _with_header(file: BinaryIO, member: Member, end: int, directory: _Directory) -> Member:
    """Add the header's facts to a directory entry. Raises RefusedError if they differ or the data miss `end`."""
    name, start = member.name, member.header_offset
    fixed = _read(file, start, _HEADER.size) if start + _HEADER.size <= directory.offset else b""
    if not fixed.startswith(_HEADER_SIGNATURE):
        raise RefusedError(f"{name!r} has no header at the offset in the directory")
    _, _, flags, method, _, _, checksum, packed, unpacked, name_length, extra_length = _HEADER.unpack(fixed)
    data = start + _HEADER.size + name_length + extra_length
    gap = end - data - member.packed
    if gap < 0:
        raise RefusedError(f"{name!r} overlaps the next member or reaches into the directory")
    texts = _read(file, start + _HEADER.size, name_length + extra_length)
    extra = _fields(texts[name_length:], name)
    unpacked, packed = _widened(extra, (unpacked, packed), name, all_or_none=True)
    _compare(name, "name", texts[:name_length], member.raw_name)
    _compare(name, "flags", flags, member.flags)
    _compare(name, "method", method, member.method)
    later = bool(flags & _SIZES_FOLLOW)
    sizes = {"checksum": (checksum, member.checksum), "packed size": (packed, member.packed)}
    for field, (own, listed) in (sizes | {"size": (unpacked, member.unpacked)}).items():
        if own or not later:
            _compare(name, field, own, listed)
    _check_gap(file, member, data + member.packed, gap, later=later)
    return replace(member, data_offset=data, extra=member.extra + extra)


def _compare(name: str, field: str, own: int | bytes, listed: int | bytes) -> None:
    if own != listed:
        raise RefusedError(f"{name!r} has {field} {own!r} in its header and {listed!r} in the directory")


def _check_gap(file: BinaryIO, member: Member, offset: int, gap: int, *, later: bool) -> None:
    """Allow a descriptor of 32 or 64 bits, with or without signature, if `later`; otherwise require no gap."""
    if gap and not later:
        raise RefusedError(f"{member.name!r} is followed by {gap} bytes that belong to no member")
    if later:
        sizes = (member.checksum, member.packed, member.unpacked)
        allowed = [struct.pack(layout, *sizes) for layout in ("<I2Q", "<3I")[: 1 + (max(sizes) <= _ELSEWHERE_32)]]
        descriptor = _read(file, offset, min(gap, _LONGEST_DESCRIPTOR))
        if descriptor.removeprefix(_DESCRIPTOR_SIGNATURE) not in allowed and descriptor not in allowed:
            raise RefusedError(f"{member.name!r} has other sizes behind its data than in the directory")


def _unpacked(file: BinaryIO, member: Member) -> Iterator[bytes]:
    pieces = _pieces(file, member)
    if member.method == STORED:
        yield from pieces
        return
    unused = yield from (_inflate(pieces) if member.method == DEFLATED else _unlzma(pieces))
    if unused or next(pieces, b""):
        raise RefusedError(f"{member.name!r} has something behind its packed data")


def _inflate(pieces: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """Yield at most `PIECE` unpacked bytes at a time. Returns the unused bytes of the last piece."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    while not engine.eof:
        packed = engine.unconsumed_tail or next(pieces, b"")
        unpacked = engine.decompress(packed, PIECE)
        yield unpacked
        if not packed and not unpacked:
            raise zlib.error("it is cut off")
    return engine.unused_data


def _unlzma(pieces: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """`_inflate` for LZMA, whose data begin with the packer's version and the length and value of the properties."""
    first = next(pieces, b"")
    if len(first) < _LZMA_HEAD.size:
        raise lzma.LZMAError("it is cut off")
    _, length, packing, dictionary = _LZMA_HEAD.unpack_from(first)
    if length != 5 or packing >= 9 * 5 * 5 or dictionary > _LARGEST_DICTIONARY:
        raise lzma.LZMAError(f"it asks for {dictionary} bytes of memory, or has unknown properties")
    properties = {"lc": packing % 9, "lp": packing // 9 % 5, "pb": packing // 45}
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, **properties}]
    engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    packed = first[_LZMA_HEAD.size :]
    while not engine.eof:
        unpacked = engine.decompress(packed, PIECE)
        yield unpacked
        packed = next(pieces, b"") if engine.needs_input else b""
        if engine.needs_input and not packed and not engine.eof:
            raise lzma.LZMAError("it is cut off")
    return engine.unused_data + packed


def _pieces(file: BinaryIO, member: Member) -> Iterator[bytes]:
    offset, end = member.data_offset, member.data_offset + member.packed
    while offset < end:
        yield _read(file, offset, min(end - offset, PIECE))
        offset += PIECE


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise RefusedError("it became shorter while it was read")
    return data
