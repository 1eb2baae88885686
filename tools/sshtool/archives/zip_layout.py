"""The members of a zip, read so strictly that no two tools can see different ones. What is odd is refused.

A zip says everything twice: in a header before each member, and in the directory at the end, which the end record
finds. Tools that read the one and tools that read the other can be shown different files, so here both have to say the
same, and every byte of the file has to belong to something::

    file      = member* directory [end64 locator] end comment
    member    = header name extra data [descriptor]
    directory = (entry name extra comment)*

The layout is that of PKWARE's APPNOTE 6.3, sections 4.3 to 4.5. `zipfile` is more forgiving: it skips what stands
before, between and behind the members, takes other names from extra fields (which ones depends on its version), and
ignores what a member's data hold beyond the stated size.
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

# More than any checkpoint's archive has, and little enough to be held in memory.
MOST_MEMBERS: Final = 1000
LARGEST_DIRECTORY: Final = 1 << 20

PIECE: Final = 1 << 20  # bytes that are unpacked at a time

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
_LONGEST_DESCRIPTOR: Final = 25  # and one byte more, which is one too many

# Of the flags, how the name is written, and that sizes and checksum stand behind the data, in the descriptor, because
# the writer could not know them before.
UTF8: Final = 0x800
_SIZES_FOLLOW: Final = 0x8

# What does not fit into 16 or 32 bits stands elsewhere: in the zip64 end record, or in the zip64 extra field.
_ELSEWHERE_16: Final = 0xFFFF
_ELSEWHERE_32: Final = 0xFFFFFFFF
_ZIP64: Final = 0x0001
UNICODE_NAME: Final = 0x7075

_LARGEST_DICTIONARY: Final = 16 << 20  # of LZMA, which allocates it at once


class RefusedError(Exception):
    """A reason not to read a zip, without its path."""


@dataclass(frozen=True)
class Member:
    """What the directory says of a member, in agreement with its own header. Offsets and sizes are in bytes."""

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
    """All members of a zip, in the order in which they lie. Raises RefusedError."""
    size = file.seek(0, os.SEEK_END)
    directory = _find_directory(file, size)
    entries = sorted(_read_directory(file, directory), key=lambda member: member.header_offset)
    if (entries[0].header_offset if entries else directory.offset) > 0:
        raise RefusedError("it does not begin with its first member")
    ends = [*(member.header_offset for member in entries), directory.offset][1:]
    return tuple(_agreed(file, member, end, directory) for member, end in zip(entries, ends, strict=True))


def stream(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Unpack a member piece by piece. Raises RefusedError for anything but exactly what the directory says."""
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
        what = "more" if count > member.unpacked else f"{count} bytes"
        raise RefusedError(f"{member.name!r} unpacks to {what} instead of {member.unpacked} bytes")
    if checksum != member.checksum:
        raise RefusedError(f"{member.name!r} has checksum {checksum:08x} instead of {member.checksum:08x}")


# --- the end of the file ----------------------------------------------------------------------------------------------


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
        raise RefusedError(f"its directory is said to end at {offset + length}, but its end record begins at {end}")
    return _Directory(offset, length, count)


def _find_end_record(tail: bytes) -> int:
    """Where in the last bytes of the file the one end record begins that reaches to the end of the file."""
    found = []
    place = tail.find(_END_SIGNATURE)
    while place >= 0:
        if place + _END.size <= len(tail):
            comment = _END.unpack_from(tail, place)[-1]
            found += [place] if place + _END.size + comment == len(tail) else []
        place = tail.find(_END_SIGNATURE, place + 1)
    if not found:
        raise RefusedError("it has no end record, so it is cut off or has something behind it")
    if len(found) > 1 or _END_SIGNATURE in tail[found[0] + _END.size :]:
        raise RefusedError("it has several end records")
    return found[0]


def _read_end64(file: BinaryIO, locator: bytes, place: int, narrow: Sequence[int]) -> Sequence[int]:
    """The fields of `narrow`, the end record, from the zip64 end record, which has to be at `place`."""
    _, disk, said, disks = _LOCATOR.unpack(locator)
    record = _read(file, place, _END64.size) if place >= 0 else b""
    if (disk, said, disks) != (0, place, 1) or not record.startswith(_END64_SIGNATURE):
        raise RefusedError("it has no zip64 end record where that is said to be")
    _, length, _, _, *wide = _END64.unpack(record)
    if length != _END64.size - 12:
        raise RefusedError("its zip64 end record has another size than that of version 1")
    limits = (*[_ELSEWHERE_16] * 4, *[_ELSEWHERE_32] * 2)
    if any(small not in (large, limit) for small, large, limit in zip(narrow, wide, limits, strict=True)):
        raise RefusedError("its two end records do not say the same")
    return wide


# --- the directory ----------------------------------------------------------------------------------------------------


def _read_directory(file: BinaryIO, directory: _Directory) -> Iterator[Member]:
    data = _read(file, directory.offset, directory.length)
    position = 0
    for number in range(1, directory.count + 1):
        fixed = data[position : position + _ENTRY.size]
        if len(fixed) != _ENTRY.size or not fixed.startswith(_ENTRY_SIGNATURE):
            raise RefusedError(f"its directory has no entry {number} of the {directory.count} that it is said to have")
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
        raise RefusedError(f"its directory has more than the {directory.count} members that it is said to have")


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
    """Extra fields: kind, length, value. Of the two that a reader believes more than the rest, there is one at most."""
    fields = []
    while extra:
        kind, length = struct.unpack_from("<2H", extra) if len(extra) >= 4 else (0, len(extra))
        value, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(value) != length:
            raise RefusedError(f"{name!r} has an extra field that is cut off")
        fields.append((kind, value))
    kinds = [kind for kind, _ in fields]
    if max(kinds.count(_ZIP64), kinds.count(UNICODE_NAME)) > 1:
        raise RefusedError(f"{name!r} has the same extra field twice")
    return tuple(fields)


def _widened(
    extra: Sequence[tuple[int, bytes]], sizes: Sequence[int], name: str, *, all_or_none: bool = False
) -> Iterator[int]:
    """The sizes, from the zip64 field those that did not fit: these and no others stand there, in this order.

    With `all_or_none`, as in a header, all stand there if one does.
    """
    field = next((value for kind, value in extra if kind == _ZIP64), None)
    needed = [size == _ELSEWHERE_32 for size in sizes]
    if all_or_none and any(needed):
        needed = [True] * len(sizes)
    if len(field or b"") != 8 * sum(needed) or (field is not None and not any(needed)):
        raise RefusedError(f"{name!r} has sizes that are not in its zip64 field, or a zip64 field that nothing needs")
    wide = iter(struct.unpack(f"<{sum(needed)}Q", field or b""))
    for size, elsewhere in zip(sizes, needed, strict=True):
        found = next(wide) if elsewhere else size
        if size not in (found, _ELSEWHERE_32):
            raise RefusedError(f"{name!r} has size {size} in its header and {found} in its zip64 field")
        yield found


# --- the members ------------------------------------------------------------------------------------------------------


def _agreed(file: BinaryIO, member: Member, end: int, directory: _Directory) -> Member:
    """The member, its header read and found to say the same, and its data to reach exactly to `end`."""
    name, start = member.name, member.header_offset
    fixed = _read(file, start, _HEADER.size) if start + _HEADER.size <= directory.offset else b""
    if not fixed.startswith(_HEADER_SIGNATURE):
        raise RefusedError(f"{name!r} has no header where the directory says")
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
    for what, (own, listed) in (sizes | {"size": (unpacked, member.unpacked)}).items():
        if own or not later:
            _compare(name, what, own, listed)
    _check_gap(file, member, data + member.packed, gap, later=later)
    return replace(member, data_offset=data, extra=member.extra + extra)


def _compare(name: str, what: str, own: int | bytes, listed: int | bytes) -> None:
    if own != listed:
        raise RefusedError(f"{name!r} has {what} {own!r} in its header and {listed!r} in the directory")


def _check_gap(file: BinaryIO, member: Member, place: int, gap: int, *, later: bool) -> None:
    """Behind the data stands nothing, or checksum and sizes: of 32 or 64 bits, with or without a signature."""
    if gap and not later:
        raise RefusedError(f"{member.name!r} is followed by {gap} bytes that belong to no member")
    if later:
        sizes = (member.checksum, member.packed, member.unpacked)
        allowed = [struct.pack(layout, *sizes) for layout in ("<I2Q", "<3I")[: 1 + (max(sizes) <= _ELSEWHERE_32)]]
        found = _read(file, place, min(gap, _LONGEST_DESCRIPTOR))
        if found not in (*allowed, *(_DESCRIPTOR_SIGNATURE + descriptor for descriptor in allowed)):
            raise RefusedError(f"{member.name!r} has other sizes behind its data than in the directory")


# --- their data -------------------------------------------------------------------------------------------------------


def _unpacked(file: BinaryIO, member: Member) -> Iterator[bytes]:
    pieces = _pieces(file, member)
    if member.method == STORED:
        yield from pieces
        return
    behind = yield from (_inflate(pieces) if member.method == DEFLATED else _unlzma(pieces))
    if behind or next(pieces, b""):
        raise RefusedError(f"{member.name!r} has something behind its packed data")


def _inflate(pieces: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """Unpack, at most `PIECE` at a time. Returns what is left of the last piece."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    while not engine.eof:
        packed = engine.unconsumed_tail or next(pieces, b"")
        unpacked = engine.decompress(packed, PIECE)
        yield unpacked
        if not packed and not unpacked:
            raise zlib.error("it is cut off")
    return engine.unused_data


def _unlzma(pieces: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """As `_inflate`. Before the data stand the version of the packer, the length of the properties, and those."""
    first = next(pieces, b"")
    if len(first) < _LZMA_HEAD.size:
        raise lzma.LZMAError("it is cut off")
    _, length, packing, dictionary = _LZMA_HEAD.unpack_from(first)
    if length != 5 or packing >= 9 * 5 * 5 or dictionary > _LARGEST_DICTIONARY:
        raise lzma.LZMAError(f"it asks for {dictionary} bytes of memory, or has unknown properties")
    kind = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary}
    kind |= {"lc": packing % 9, "lp": packing // 9 % 5, "pb": packing // 45}
    engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[kind])
    packed = first[_LZMA_HEAD.size :]
    while not engine.eof:
        unpacked = engine.decompress(packed, PIECE)
        yield unpacked
        packed = next(pieces, b"") if engine.needs_input else b""
        if engine.needs_input and not packed and not engine.eof:
            raise lzma.LZMAError("it is cut off")
    return engine.unused_data + packed


def _pieces(file: BinaryIO, member: Member) -> Iterator[bytes]:
    position, left = member.data_offset, member.packed
    while left:
        piece = _read(file, position, min(left, PIECE))
        yield piece
        position, left = position + len(piece), left - len(piece)


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise RefusedError("it became shorter while it was read")
    return data
