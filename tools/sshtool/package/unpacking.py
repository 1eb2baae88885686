"""Opens an untrusted package: a folder as it is, an archive by checking and unpacking each member."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pydantic

from sshconvert.errors import PackageError
from sshconvert.files import output_errors, scratch_folder
from sshconvert.reading import is_folder, is_there, open_regular, read_small
from sshconvert.schema import one_line
from sshtool.archives.tar_layout import read_files
from sshtool.archives.zip_check import ArchiveLimits, check
from sshtool.archives.zip_layout import DEFLATED, STORED, RefusedError, read_members, stream
from sshtool.package.names import PackagePath

LARGEST: Final = 16 << 30  # bytes of all members; more than any real package has
RATIO: Final = 200.0  # zlib exceeds this compression only for constant data

_GZIP: Final = b"\x1f\x8b"
_PATH: Final = pydantic.TypeAdapter(PackagePath)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yield the folder of a package: `path` itself, or the temporary folder of an unpacked archive (zip, tar.gz).

    Raises PackageError for anything else, and for a suspicious archive; it does not sanitise members.
    """
    if is_folder(path):
        yield path
        return
    try:
        archive = open_regular(path)
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); give a package's folder or archive") from None
    with archive as file, scratch_folder() as scratch:
        folder = scratch / "package"
        folder.mkdir()
        try:
            if file.read(2) == _GZIP:
                _unpack_tar(file, folder)
            else:
                _unpack_zip(file, folder)
            package = _only_folder(folder)
        except (RefusedError, ValueError) as error:
            raise PackageError(f"{path}: {one_line(error)}; get the package again from a source you trust") from None
        yield package


def read_file(path: Path, name: str, largest: int) -> bytes | None:
    """Read one file of a package, without unpacking the others; None if the folder or archive has no such file.

    Raises PackageError.
    """
    try:
        if is_folder(path):
            return read_small(path / name, largest) if is_there(path / name) else None
        with open_regular(path) as file:
            is_tar = file.read(2) == _GZIP
            for member, pieces in _tar_members(file) if is_tar else _zip_members(file):
                if member.partition("/")[2] == name:
                    return _whole(pieces, largest)
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); give a package's folder or archive") from None
    except (RefusedError, ValueError) as error:
        raise PackageError(f"{path}: {one_line(error)}; get the package again from a source you trust") from None
    return None


def _zip_members(file: BinaryIO) -> Iterator[tuple[str, Iterable[bytes]]]:
    members = read_members(file)
    check(members, _limits())
    return ((member.name, stream(file, member)) for member in members)


def _tar_members(file: BinaryIO) -> Iterator[tuple[str, Iterable[bytes]]]:
    file.seek(0)
    return ((member.name, member.pieces) for member in read_files(file, _limits()))


def _whole(pieces: Iterable[bytes], largest: int) -> bytes:
    """The bytes of a member. Raises ValueError if it has more than `largest`."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > largest:
            raise ValueError(f"a description in it has more than {largest} bytes")
    return bytes(data)


def _unpack_zip(file: BinaryIO, folder: Path) -> None:
    members = read_members(file)
    check(members, _limits())
    for member in members:
        if not member.name.endswith("/"):
            _write(_target(folder, member.name), stream(file, member))


def _unpack_tar(file: BinaryIO, folder: Path) -> None:
    """Unpack in one pass: a tar lists its members only while it is read."""
    for member in read_files(file, _limits()):
        _write(_target(folder, member.name), member.pieces)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with output_errors(path), path.open("xb") as target:
        for piece in _readings(pieces):
            target.write(piece)


def _readings(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a member. An OSError of the archive becomes a ValueError, to tell it from one of the target."""
    try:
        yield from pieces
    except OSError as error:
        raise ValueError(f"it cannot be read completely ({error.strerror})") from None


def _limits() -> ArchiveLimits:
    return ArchiveLimits((STORED, DEFLATED), LARGEST, ratio=RATIO)


def _target(folder: Path, name: str) -> Path:
    """The path of a member. Raises ValueError for a name that a package cannot have, or has already."""
    try:
        path = folder / _PATH.validate_python(name)
    except pydantic.ValidationError:
        raise ValueError(f"{one_line(name)!r} is no name that a package has") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{one_line(name)!r} lies in a file") from None
    if is_there(path):
        raise ValueError(f"{one_line(name)!r} occurs twice")
    return path


def _only_folder(folder: Path) -> Path:
    """The one folder of an archive, with all files in it. Raises ValueError."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not is_folder(entries[0]):
        raise ValueError("it does not hold one folder with all files in it")
    return entries[0]
