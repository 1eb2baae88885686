"""What a zip archive must be before anything of it is unpacked. Nothing is repaired: what is odd is refused.

A zip says everything twice: in a header before each member, and in the directory at the end. Tools that read the one
and tools that read the other can be shown different files, so here both have to say the same. The layout is that of
PKWARE's APPNOTE 6.3, sections 4.3 to 4.5.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Final

MOST_MEMBERS: Final = 1000

# What a member may grow to, and by how much. Weights hardly shrink at all, a symbol to a tenth.
LARGEST_MEMBER: Final = 2 << 30
LARGEST_RATIO: Final = 200
SMALL: Final = 1 << 20  # below this, the ratio does no harm

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_LOCAL_SIGNATURE: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # encrypted, strongly so, and with masked headers
_UTF8: Final = 0x800  # how the name is written
_SIZES_FOLLOW: Final = 0x8  # sizes and checksum stand behind the data, where the writer could not know them before
_IN_EXTRA: Final = 0xFFFFFFFF  # the size stands in the zip64 field
_ZIP64: Final = 1

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class RefusedError(Exception):
    """A reason not to unpack. It names the member, and becomes an ArchiveError with the archive's path."""


def check(archive: zipfile.ZipFile) -> None:
    """Look at every member, whether it is wanted or not, before one is unpacked. Raises RefusedError."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise RefusedError(f"it lists {len(members)} members, more than {MOST_MEMBERS}")
    for name, count in Counter(_folded(member.filename) for member in members).items():
        if count > 1:
            raise RefusedError(f"{name!r} is listed {count} times")
    for member in members:
        _check_name(member)
        _check_kind(member)
    _check_places(archive, members)


def stream(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack a member piece by piece: `zipfile` gives no more of it than the directory says. Raises RefusedError for
    less, and BadZipFile where the checksum is another.
    """
    count = 0
    with archive.open(member) as source:
        while piece := source.read(1 << 20):
            count += len(piece)
            yield piece
    if count != member.file_size:
        raise RefusedError(f"{member.filename!r} unpacks to {count} bytes instead of {member.file_size}")


def _folded(name: str) -> str:
    """A name as a file system may understand it that knows no case."""
    return name.rstrip("/").casefold()


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = PurePosixPath(name).parts
    problems = {
        "has no name": not name.strip("/ "),
        "has a control character in its name": bool(_CONTROL.search(name)),
        "has a backslash in its name": "\\" in name,
        "has an absolute path": name.startswith("/") or bool(_DRIVE.match(name)),
        "leads out of the folder": ".." in parts,
        "has an empty or a dot part in its path": name != "/".join(parts) + "/" * name.endswith("/"),
        f"is also called {member.filename!r}": member.filename != name,
    }
    _refuse_first(name, problems)


def _check_kind(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    packed, unpacked = member.compress_size, member.file_size
    ratio = unpacked / max(1, packed)
    problems = {
        "is encrypted": bool(member.flag_bits & _ENCRYPTED),
        "is a link or a device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "is a folder in one place and a file in the other": kind != 0 and (kind == stat.S_IFDIR) != member.is_dir(),
        "is a folder with something in it": member.is_dir() and unpacked > 0,
        f"is packed by method {member.compress_type}": member.compress_type not in _METHODS,
        f"claims {unpacked} bytes": unpacked > LARGEST_MEMBER,
        f"claims to unpack to {ratio:.0f} times its size": unpacked > SMALL and ratio > LARGEST_RATIO,
        "is stored with two different sizes": member.compress_type == zipfile.ZIP_STORED and unpacked != packed,
    }
    _refuse_first(member.filename, problems)


def _refuse_first(name: str, problems: Mapping[str, bool]) -> None:
    for problem, present in problems.items():
        if present:
            raise RefusedError(f"{name!r} {problem}")


def _check_places(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
    """Members lie one behind the other, before the directory, and their own headers say what the directory says."""
    file: Any = archive.fp
    free_from, before = 0, "the beginning"
    for member in sorted(members, key=lambda item: item.header_offset):
        if member.header_offset < free_from:
            raise RefusedError(f"{member.filename!r} overlaps {before}")
        header = _read_header(file, member)
        _compare(header, member)
        free_from = member.header_offset + header.length + member.compress_size
        before = repr(member.filename)
    if free_from > archive.start_dir:
        raise RefusedError(f"{before} reaches into the directory")


@dataclass(frozen=True)
class _Header:
    """What stands before a member's data; `length` in bytes."""

    flags: int
    method: int
    checksum: int
    packed: int
    unpacked: int
    name: bytes
    length: int


def _read_header(file: IO[bytes], member: zipfile.ZipInfo) -> _Header:
    file.seek(member.header_offset)
    fixed = file.read(_LOCAL_HEADER.size)
    if len(fixed) != _LOCAL_HEADER.size or not fixed.startswith(_LOCAL_SIGNATURE):
        raise RefusedError(f"{member.filename!r} has no header where the directory says")
    _, _, flags, method, _, _, checksum, packed, unpacked, name_length, extra_length = _LOCAL_HEADER.unpack(fixed)
    name, extra = file.read(name_length), file.read(extra_length)
    if len(name) != name_length or len(extra) != extra_length:
        raise RefusedError(f"{member.filename!r} has a header that is cut off")
    if _IN_EXTRA in (packed, unpacked):
        unpacked, packed = _zip64_sizes(extra, unpacked, packed, member)
    length = _LOCAL_HEADER.size + name_length + extra_length
    return _Header(flags, method, checksum, packed, unpacked, name, length)


def _zip64_sizes(extra: bytes, unpacked: int, packed: int, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Sizes that do not fit into the header: from the zip64 field, those that are needed, in this order."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP64 and len(field) == length:
            values = iter(struct.unpack_from(f"<{length // 8}Q", field))
            sizes = [next(values, None) if size == _IN_EXTRA else size for size in (unpacked, packed)]
            if None not in sizes:
                return sizes[0] or 0, sizes[1] or 0
    raise RefusedError(f"{member.filename!r} has a size that is not in its header")


def _compare(header: _Header, member: zipfile.ZipInfo) -> None:
    encoding = "utf-8" if member.flag_bits & _UTF8 else "cp437"
    pairs: list[tuple[str, int | bytes, int | bytes]] = [
        ("name", header.name, member.orig_filename.encode(encoding)),
        ("method", header.method, member.compress_type),
        ("flags", header.flags, member.flag_bits),
    ]
    sizes: list[tuple[str, int | bytes, int | bytes]] = [
        ("checksum", header.checksum, member.CRC),
        ("packed size", header.packed, member.compress_size),
        ("size", header.unpacked, member.file_size),
    ]
    pairs += [item for item in sizes if item[1] or not header.flags & _SIZES_FOLLOW]
    for what, own, listed in pairs:
        if own != listed:
            raise RefusedError(f"{member.filename!r} has {what} {own!r} in its header and {listed!r} in the directory")
