"""Checkpoint archives in upstream's layout: a zip or a tar with the symbol and the parameters in one folder."""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from sshconvert.checkpoint import Checkpoint, CheckpointFiles, open_checkpoint
from sshconvert.digest import BLOCK, Algorithm, stream_digest
from sshconvert.errors import ArchiveError
from sshconvert.files import scratch_folder, staged, staging_folder
from sshconvert.models.spec import ModelSpec, PinnedFile
from sshconvert.reading import open_regular, state
from sshconvert.recognition import HEAD, TAR, ZIP, mistaken, recognised

_SIGNATURE: Final = b"PK\x03\x04"

Item = TypeVar("Item")


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
    """Whether the path is a zip or tar file, even a broken one. The file's name does not matter."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
            return head.startswith(_SIGNATURE) or recognised(head) == TAR or zipfile.is_zipfile(file)
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

    def digest(self, algorithm: Algorithm = "sha256") -> str:
        with self._errors():
            self._file.seek(0)
            return stream_digest(self._file, algorithm)

    def is_pinned(self, pinned: PinnedFile) -> bool:
        """Whether this is the file of a description."""
        return self.size == pinned.size and self.digest(pinned.algorithm) == pinned.digest

    def copy(self, path: Path) -> None:
        """Write the same bytes to another file."""
        with self._errors():
            self._file.seek(0)
        self._write(iter(lambda: self._file.read(BLOCK) or None, None), path)

    def unpack(self, model: ModelSpec, folder: Path) -> None:
        """Unpack both of the model's files, or neither, into `folder`. Other members stay in the archive.

        The files lie in the folder that the model names, or else at the archive's root or inside one enclosing folder.

        Raises:
            ArchiveError: The archive does not hold each file once, or has a member that no packer writes.
            OutputError: The files cannot be written.

        """
        with self._errors():
            self._file.seek(0)
            is_tar = recognised(self._file.read(HEAD)) == TAR
        with staging_folder(folder) as staging:
            (self._unpack_tar if is_tar else self._unpack_zip)(model, staging)
            for name in model.file_names:
                (staging / name).replace(folder / name)

    def _unpack_zip(self, model: ModelSpec, staging: Path) -> None:
        from sshtool.archives.zip_check import check
        from sshtool.archives.zip_layout import read_members, stream

        with self._errors():
            members = read_members(self._file)
            check(members)
        names = [member.name for member in members]
        found = {name: members[self._place_of(name, model, names)] for name in model.file_names}
        for name, member in found.items():
            self._write(stream(self._file, member), staging / name)

    def _unpack_tar(self, model: ModelSpec, staging: Path) -> None:
        """Unpack while reading: a tar has no directory."""
        from sshtool.archives.tar_layout import read_plain_files
        from sshtool.archives.zip_check import ArchiveLimits

        files = read_plain_files(self._file, ArchiveLimits())
        names: list[str] = []
        while (member := self._next(files)) is not None:
            names.append(member.name.removeprefix("./"))
            for name in model.file_names:
                if _is_at(names[-1], name, model.checkpoint.folder):
                    self._write(member.pieces, staging / name)
        for name in model.file_names:
            self._place_of(name, model, names)

    def _write(self, pieces: Iterator[bytes], path: Path) -> None:
        with path.open("wb") as target:
            while (piece := self._next(pieces)) is not None:
                target.write(piece)

    def _next(self, items: Iterator[Item]) -> Item | None:
        """Return the next item; only errors of reading become ArchiveError."""
        with self._errors():
            return next(items, None)

    def _place_of(self, name: str, model: ModelSpec, names: Sequence[str]) -> int:
        """Return which of the names of all members is that of a model's file. Raises ArchiveError unless one is."""
        folder = model.checkpoint.folder
        places = [place for place, member in enumerate(names) if _is_at(member, name, folder)]
        if len(places) != 1:
            held = ", ".join(map(repr, names[:10])) or "nothing"
            actual = mistaken(self.path, ZIP)
            place = self.path if actual in ("", TAR) else f"{self.path}: is {actual}"
            expected = f"{folder}/{name}" if folder else name
            raise ArchiveError(
                f"{place}: expected {expected} once, found it {len(places)} times; the archive holds {held}"
            )
        return places[0]

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


def _is_at(member: str, name: str, folder: str) -> bool:
    """Whether a member is a model's file: in `folder`, or for "" at the root or inside one enclosing folder."""
    return member == f"{folder}/{name}" if folder else member in (name, f"{member.split('/', maxsplit=1)[0]}/{name}")


def unpack(path: Path, model: ModelSpec, folder: Path) -> str:
    """Unpack an archive into `folder` (see `Archive.unpack`) and return its SHA-256."""
    with open_archive(path) as archive:
        archive.unpack(model, folder)
        return archive.digest()


def pack(folder: Path, model: ModelSpec, path: Path) -> None:
    """Write a zip of the model's two files in upstream's folder: stored, without times, reproducible."""
    inside = f"{model.checkpoint.folder}/" if model.checkpoint.folder else ""
    with staged(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name in model.file_names:
            member = zipfile.ZipInfo(f"{inside}{name}")
            member.external_attr = 0o644 << 16
            member.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _unreadable(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions")
