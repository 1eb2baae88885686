"""Checkpoint archives in upstream's layout: a zip with the symbol and the parameters at its root."""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from sshconvert.checkpoint import Checkpoint, CheckpointFiles, open_checkpoint
from sshconvert.digest import stream_sha256
from sshconvert.errors import ArchiveError
from sshconvert.files import scratch_folder, staged, staging_folder
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import open_regular, state
from sshconvert.recognition import ZIP, mistaken

if TYPE_CHECKING:
    from sshtool.archives.zip_layout import Member

_SIGNATURE: Final = b"PK\x03\x04"


@contextlib.contextmanager
def opened(path: Path | CheckpointFiles, model: ModelSpec, *, allow_nonfinite: bool = False) -> Iterator[Checkpoint]:
    """Open a folder, a `.params` file, two files, or an archive, which this context unpacks into a temporary folder.

    Raises what `open_checkpoint` and `unpack` raise.
    """
    if isinstance(path, CheckpointFiles) or not is_archive(path):
        yield open_checkpoint(path, model, allow_nonfinite=allow_nonfinite)
        return
    with scratch_folder() as folder:
        sha256 = unpack(path, model, folder)
        checkpoint = open_checkpoint(folder, model, allow_nonfinite=allow_nonfinite)
        yield checkpoint if checkpoint.is_demo else replace(checkpoint, weights=f"sha256:{sha256}")


def is_archive(path: Path) -> bool:
    """Whether the path is a zip file, even a broken one. The file's name does not matter."""
    try:
        with open_regular(path) as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE or zipfile.is_zipfile(file)
    except OSError:
        return False


class Archive:
    """An open archive, which hashes and unpacks the same bytes. Raises ArchiveError, also if the file changes."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._state = state(file)

    @property
    def size(self) -> int:
        """In bytes."""
        return self._state[0]

    def sha256(self) -> str:
        with self._errors():
            self._file.seek(0)
            return stream_sha256(self._file)

    def unpack(self, model: ModelSpec, folder: Path) -> None:
        """Unpack both of the model's files, or neither, into `folder`. Other members stay in the archive.

        The files lie at the archive's root or inside one enclosing folder.

        Raises:
            ArchiveError: The archive does not hold each file once, or has a member that no packer writes.
            OutputError: The files cannot be written.

        """
        from sshtool.archives.zip_check import check
        from sshtool.archives.zip_layout import read_members

        with self._errors():
            members = read_members(self._file)
            check(members)
            model_files = {name: self._find(members, name) for name in model.file_names}
        with staging_folder(folder) as staging:
            for name, member in model_files.items():
                with (staging / name).open("wb") as target:
                    self._write(member, target)
            for name in model_files:
                (staging / name).replace(folder / name)

    def _write(self, member: Member, target: BinaryIO) -> None:
        """Unpack a member; only errors of reading become ArchiveError."""
        from sshtool.archives.zip_layout import stream

        pieces = stream(self._file, member)
        while True:
            with self._errors():
                piece = next(pieces, None)
            if piece is None:
                return
            target.write(piece)

    def _find(self, members: Sequence[Member], name: str) -> Member:
        matches = [member for member in members if member.name in (name, f"{member.name.split('/')[0]}/{name}")]
        if len(matches) != 1:
            names = ", ".join(repr(member.name) for member in members[:10]) or "nothing"
            actual = mistaken(self.path, ZIP)
            place = f"{self.path}: is {actual}" if actual else self.path
            raise ArchiveError(
                f"{place}: expected {name} once, found it {len(matches)} times; the archive holds {names}"
            )
        return matches[0]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from sshtool.archives.zip_layout import RefusedError

        try:
            yield
        except RefusedError as error:
            self._require_unchanged()  # a change explains the error better
            raise ArchiveError(f"{self.path}: {error}; get the archive again from a trusted source") from None
        except OSError as error:
            raise _unreadable(self.path, error) from None
        self._require_unchanged()

    def _require_unchanged(self) -> None:
        if state(self._file) != self._state:
            raise ArchiveError(f"{self.path}: changed while it was read; try again when it is complete")


@contextlib.contextmanager
def open_archive(path: Path, *, follow: bool = True) -> Iterator[Archive]:
    """Open an archive; `follow` allows a link, as in `open_regular`. Raises ArchiveError if it cannot be read."""
    try:
        file = open_regular(path, follow=follow)
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        yield Archive(path, file)


def unpack(path: Path, model: ModelSpec, folder: Path) -> str:
    """Unpack an archive into `folder` (see `Archive.unpack`) and return its SHA-256."""
    with open_archive(path) as archive:
        archive.unpack(model, folder)
        return archive.sha256()


def pack(folder: Path, model: ModelSpec, path: Path) -> None:
    """Write an archive of the model's two files in upstream's layout: stored, without times, reproducible."""
    with staged(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name in model.file_names:
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o644 << 16
            member.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _unreadable(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions")
