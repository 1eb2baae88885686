"""Opening a package that a stranger sent: a folder as it is, an archive unpacked member by member, each one checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pydantic

from sshconvert.errors import PackageError
from sshconvert.files import output_errors, scratch_folder
from sshconvert.reading import is_folder, is_there, open_regular
from sshconvert.schema import one_line
from sshtool.archives.tar_layout import read_files
from sshtool.archives.zip_check import Limits, check
from sshtool.archives.zip_layout import DEFLATED, STORED, RefusedError, read_members, stream
from sshtool.package.names import PackagePath

# More than the largest honest package has, and little enough to be unpacked.
LARGEST: Final = 16 << 30
RATIO: Final = 200.0  # zlib shrinks nothing but constants by more

_GZIP: Final = b"\x1f\x8b"
_PATH: Final = pydantic.TypeAdapter(PackagePath)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the folder of a package: `path` itself, or for an archive (zip, tar.gz) what is in it, for the block's time.

    Raises PackageError for what is neither, and for an archive that no honest packer makes: nothing of it is sanitised.
    """
    if is_folder(path):
        yield path
        return
    with scratch_folder() as scratch, _readable(path) as file:
        folder = scratch / "package"
        folder.mkdir()
        try:
            if file.read(2) == _GZIP:
                _unpack_tar(file, folder)
            else:
                _unpack_zip(file, folder)
            whole = _only_folder(folder)
        except (RefusedError, ValueError) as error:
            raise PackageError(f"{path}: {one_line(error)}; get the package again from whom you trust") from None
        yield whole


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open_regular(path)
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); name a package's folder or archive") from None
    with file:
        yield file


def _unpack_zip(file: BinaryIO, folder: Path) -> None:
    members = read_members(file)
    check(members, _limits())
    for member in members:
        if not member.name.endswith("/"):
            _write(_target(folder, member.name), stream(file, member))


def _unpack_tar(file: BinaryIO, folder: Path) -> None:
    """File by file, without a look back: its contents are unknown before it is unpacked."""
    for member in read_files(file, _limits()):
        _write(_target(folder, member.name), member.pieces)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with output_errors(path), path.open("xb") as target:
        for piece in _readings(pieces):
            target.write(piece)


def _readings(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a member. What goes wrong while they are read is no error of the place where they go."""
    try:
        yield from pieces
    except OSError as error:
        raise ValueError(f"it cannot be read to its end ({error.strerror})") from None


def _limits() -> Limits:
    return Limits((STORED, DEFLATED), LARGEST, ratio=RATIO)


def _target(folder: Path, name: str) -> Path:
    """Where a member goes: only names that a package can have, each once. Raises ValueError."""
    try:
        path = folder / _PATH.validate_python(name)
    except pydantic.ValidationError:
        raise ValueError(f"{one_line(name)!r} is no name that a package has") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{one_line(name)!r} lies in a file") from None
    if is_there(path):
        raise ValueError(f"{one_line(name)!r} is there twice")
    return path


def _only_folder(folder: Path) -> Path:
    """Archives hold one folder with everything in it."""
    found = list(folder.iterdir())
    if len(found) != 1 or not is_folder(found[0]):
        raise ValueError("it does not hold one folder with everything in it")
    return found[0]
