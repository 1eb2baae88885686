"""A strict reader of tar and tar.gz files: it rejects archives that two tools could read differently.

The layout follows POSIX.1-2017 (pax, "ustar Interchange Format")::

    archive = member* two zero blocks, zeros
    member  = header data, padded with zeros to whole blocks of 512 bytes

An extended header is a member whose data describe the next member: "x" (PAX records) and "L" (a long name, by GNU
tar). The data of "g" describe all members that follow. `tarfile` reads such data at once, whatever size they claim,
and recurses for the next header. This module walks the blocks in bounded memory and lets `tarfile` parse single
blocks.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from sshtool.archives.zip_check import SMALL, ArchiveLimits
from sshtool.archives.zip_layout import MOST_MEMBERS, PIECE, RefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_RECORDS: Final = 8 << 10  # bytes of one extended header; a path, times and owners take a tenth
LONGEST_PADDING: Final = 1 << 20  # bytes; packers fill up the block size of a tape

_BLOCK: Final = tarfile.BLOCKSIZE
_ZEROS: Final = bytes(_BLOCK)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
_SIZE: Final = re.compile(rb" *[0-7]+[ \0]*|\x80.{11}", re.DOTALL)  # octal digits, or a number of 88 bits
_WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS  # makes zlib check the trailing checksum and size


@dataclass(frozen=True)
class TarFile:
    """A file of the archive. `read_files` skips the bytes that the caller did not take from `pieces`."""

    name: str
    size: int
    pieces: Iterator[bytes]


def read_files(file: BinaryIO, limits: ArchiveLimits) -> Iterator[TarFile]:
    """Yield the files of a tar.gz in archive order. Raises RefusedError, also for a folder, and after the last file.

    `limits.largest` bounds the sum of all sizes, `limits.ratio` each file and the archive; `limits.methods` is unused.
    """
    raw = _Gzip(file, limits)
    return _files(io.BufferedReader(raw, 1 << 16), limits, raw.begin_file, _Extensions())


def read_plain_files(file: BinaryIO, limits: ArchiveLimits) -> Iterator[TarFile]:
    """Yield the files of a tar in archive order, without its folders. Raises RefusedError, also after the last file.

    `limits.largest` bounds the sum of all sizes.
    """
    file.seek(0)
    return _files(file, limits, lambda: None, _Extensions(allows_folders=True))


def _files(
    stream: BinaryIO | io.BufferedReader, limits: ArchiveLimits, begin_file: Callable[[], None], extensions: _Extensions
) -> Iterator[TarFile]:
    remaining, count = limits.largest, 0
    while (block := _read(stream, _BLOCK)) != _ZEROS:
        header = _header(block)
        if header.type not in _FILES:
            extensions.add(header, stream)
            continue
        name = extensions.applied(header)
        count, remaining = count + 1, remaining - header.size
        if count > MOST_MEMBERS or remaining < 0:
            raise RefusedError(f"it holds more than {MOST_MEMBERS} files or {limits.largest} bytes")
        begin_file()
        pieces = _pieces(stream, header.size)
        yield TarFile(name, header.size, pieces)
        for _ in pieces:
            pass
        _skip_padding(stream, header.size)
    if extensions.records:
        raise RefusedError("its last extended header belongs to no file")
    _require_end(stream)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise RefusedError(f"it has no header where one has to be ({error})") from None
    if not _SIZE.fullmatch(block[124:136]):  # tools disagree about a sign, an underscore and bytes after a NUL
        raise RefusedError(f"{header.name!r} has a size that is no number")
    return header


@dataclass
class _Extensions:
    """The extended headers before a file, at most one of each type, and the global one; and folders, if allowed."""

    records: dict[bytes, dict[str, str]] = field(default_factory=dict)
    has_global: bool = False
    allows_folders: bool = False

    def add(self, header: tarfile.TarInfo, stream: BinaryIO) -> None:
        """Read the data of an extended header. Raises RefusedError for other headers."""
        if header.type == tarfile.DIRTYPE and self.allows_folders and header.size == 0:
            self.records.clear()  # they describe the folder
            return
        if header.type not in _EXTENDED:
            raise RefusedError(f"{header.name!r} is a link, a device, a folder or unknown; a package has only files")
        if header.size > LARGEST_RECORDS:
            raise RefusedError(f"it has an extended header of {header.size} bytes, more than {LARGEST_RECORDS}")
        if header.type in self.records or (header.type == tarfile.XGLTYPE and self.has_global):
            raise RefusedError("it has several extended headers of one kind for one file")
        data = _read(stream, header.size)
        _skip_padding(stream, header.size)
        if header.type == tarfile.XGLTYPE:
            self.has_global = True
            if _records(data).keys() & {"path", "size"}:
                raise RefusedError("it has an extended header that gives one name or size to all files")
        elif header.type == tarfile.GNUTYPE_LONGNAME:
            self.records[header.type] = {"path": _text(data.removesuffix(b"\0"))}
        else:
            self.records[header.type] = _records(data)

    def applied(self, header: tarfile.TarInfo) -> str:
        """Return the name of the file that follows its extended headers, and forget those."""
        pending, self.records = self.records.values(), {}
        names = {records["path"] for records in pending if "path" in records} or {header.name}
        sizes = {records["size"] for records in pending if "size" in records} - {str(header.size)}
        if len(names) > 1 or sizes:
            raise RefusedError(f"{header.name!r} has other names or sizes in its extended headers")
        name = names.pop()
        if "\0" in name or name.endswith("/"):  # tools disagree where such a name ends
            raise RefusedError(f"{name!r} is no name of a file")
        return name


def _records(data: bytes) -> dict[str, str]:
    """Parse PAX records: the record's length in decimal, a blank, key=value, and a line feed."""
    records: dict[str, str] = {}
    while data:
        digits, blank, _ = data[:6].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        if length > len(data) or b"=" not in record or not record.endswith(b"\n"):
            raise RefusedError("it has a malformed extended header")
        key, _, value = _text(record[:-1]).partition("=")
        if key in records or key == "hdrcharset" or key.startswith("GNU.sparse"):
            raise RefusedError(f"it has an extended header with {key!r} twice, or that has no place in a package")
        records[key] = value
        data = data[length:]
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        piece = _read(stream, min(length, PIECE))
        length -= len(piece)
        yield piece


def _skip_padding(stream: BinaryIO, length: int) -> None:
    if _read(stream, -length % _BLOCK).strip(b"\0"):
        raise RefusedError("it has something between its members")


def _require_end(stream: BinaryIO) -> None:
    """Require a second zero block, and nothing but zeros after it."""
    piece, length = _read(stream, _BLOCK), 0
    while piece:
        if piece.strip(b"\0"):
            raise RefusedError("it has something behind its end")
        piece = stream.read(_BLOCK)
        length += len(piece)
        if length > LONGEST_PADDING:
            raise RefusedError(f"it has more than {LONGEST_PADDING} zeros behind its end")


def _read(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise RefusedError("it is cut off")
    return data


class _Gzip(io.RawIOBase):
    """A stream that unpacks a file of one gzip member, in bounded memory and up to a ratio."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        file.seek(0)
        self._file, self._ratio = file, limits.ratio
        self._engine = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._packed = self._unpacked = 0
        self._file_packed = self._file_unpacked = 0

    def readable(self) -> bool:
        return True

    def begin_file(self) -> None:
        """Restart the ratio of the current file; the ratio of the archive continues."""
        self._file_packed, self._file_unpacked = self._packed, self._unpacked

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._engine.eof:
            packed = self._engine.unconsumed_tail or self._file.read(1 << 16)
            try:
                unpacked = self._engine.decompress(packed, len(view))
            except zlib.error as error:
                raise RefusedError(f"it cannot be unpacked ({error})") from None
            if not packed and not unpacked:
                raise RefusedError("it is cut off")
            self._count(len(packed) - len(self._engine.unconsumed_tail), len(unpacked))
            if unpacked:
                view[: len(unpacked)] = unpacked
                return len(unpacked)
        if self._engine.unused_data or self._file.read(1):
            raise RefusedError("it has something behind its packed data")
        return 0

    def _count(self, packed: int, unpacked: int) -> None:
        self._packed += packed
        self._unpacked += unpacked
        for packed_before, unpacked_before in ((0, 0), (self._file_packed, self._file_unpacked)):
            produced, consumed = self._unpacked - unpacked_before, self._packed - packed_before
            if produced > SMALL and produced > self._ratio * consumed:
                raise RefusedError(f"it unpacks to more than {self._ratio:.0f} times its size")
