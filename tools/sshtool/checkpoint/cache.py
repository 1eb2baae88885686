"""Archives that were downloaded, one folder for each, named by the SHA-256 that the model's description pins.

<cache>/<sha256>/ssh-model-final.zip    complete, and verified again before each use
<cache>/<sha256>/.part                  the beginning of it, for the next run to go on with
<cache>/<sha256>/.source.json           where it comes from, and which version of it
<cache>/<sha256>/.lock                  held by the one process that downloads; empty, and stays there

No link is followed inside the folder, and what is no file there is never opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import pydantic

from sshconvert.digest import stream_sha256
from sshconvert.errors import DownloadError, OutputError
from sshconvert.models.spec import PinnedFile
from sshconvert.reading import open_itself, open_regular, read_small, state
from sshconvert.schema import Strict, parse_json
from sshtool.checkpoint.sources import SourceFailedError

BLOCK: Final = 1 << 20
LARGEST_ORIGIN: Final = 1 << 16


class WrongBytesError(SourceFailedError):
    """What came is not the archive."""


class Origin(Strict):
    """`.source.json`: the source without its secrets, and its ETag or Last-Modified if it gave one."""

    source: str
    # It goes into a header of the next request as it is.
    validator: Annotated[str, pydantic.StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=1000)] = ""


class Writer:
    """Takes the archive's bytes in order, hashes them, and refuses more of them than the archive has."""

    def __init__(self, file: BinaryIO, archive: PinnedFile) -> None:
        self._file, self._archive = file, archive
        self._digest = hashlib.sha256()
        self.size = 0

    def read_what_is_there(self) -> None:
        while block := self._file.read(BLOCK):
            self._count(block)

    def write(self, block: bytes) -> None:
        """Raises WrongBytesError, before anything is written that cannot belong to the archive."""
        if self.size + len(block) > self._archive.size:
            raise WrongBytesError(f"sends more than the {self._archive.size} bytes of {self._archive.name}")
        self._count(block)
        self._file.write(block)

    def check(self) -> None:
        """Raises WrongBytesError unless this is the whole archive."""
        if self.size != self._archive.size:
            raise WrongBytesError(f"ended after {self.size} of {self._archive.size} bytes")
        if self._digest.hexdigest() != self._archive.sha256:
            raise WrongBytesError(
                f"sent {self.size} bytes with SHA-256 {self._digest.hexdigest()}, expected {self._archive.sha256}"
            )

    def _count(self, block: bytes) -> None:
        self.size += len(block)
        self._digest.update(block)


class Entry:
    """One archive's place in the cache. Apart from `is_good`, all of it is for who holds `locked`."""

    def __init__(self, cache: Path, archive: PinnedFile) -> None:
        self.archive = archive
        self.cache = cache
        self.folder = cache / archive.sha256
        self.path = self.folder / archive.name
        self._part = self.folder / ".part"
        self._origin = self.folder / ".source.json"
        self._lock = self.folder / ".lock"

    def is_good(self) -> bool:
        """Whether the archive is there, whole and unchanged."""
        try:
            with open_regular(self.path, follow=False) as file:
                if state(file)[0] != self.archive.size:
                    return False
                return stream_sha256(file) == self.archive.sha256
        except OSError:
            return False

    def require_trusted(self) -> None:
        """Raises DownloadError if another user could put links or other archives into the cache.

        It has to belong to this user or to root, and only they and the user's own group may write there. Where
        everybody may write but only remove what is theirs, as in /tmp, the entry's own folder counts.
        """
        if os.name == "posix":
            _require_own(self.cache, sticky=True)
            _require_own(self.folder, sticky=False)

    def origin(self) -> Origin | None:
        """Where the archive, or its part, comes from; None if that is not known."""
        try:
            return parse_json(Origin, read_small(self._origin, LARGEST_ORIGIN, follow=False))
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None], patience: float) -> Iterator[None]:
        """Be the only process that works at this archive; wait for another one up to `patience` seconds.

        Raises DownloadError when that is over, and OutputError for whatever cannot be written here.
        """
        import filelock

        with _output_errors(self.folder):
            self.cache.mkdir(0o755, parents=True, exist_ok=True)
            self.folder.mkdir(0o700, exist_ok=True)
            self.require_trusted()
            self._require_lock_file()
            lock = filelock.FileLock(self._lock)
            try:
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    say(f"waiting for another sshtool that downloads {self.archive.name}")
                    lock.acquire(timeout=patience, poll_interval=0.1)
            except filelock.Timeout:
                raise DownloadError(
                    f"{self._lock}: another sshtool has held it for {patience:.0f} s; end that one, or use another "
                    "--cache-dir"
                ) from None
            try:
                yield
            finally:
                lock.release()

    def _require_lock_file(self) -> None:
        """Raises OutputError if something else is in the place of the lock, which would be opened and written."""
        try:
            there = self._lock.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(there.st_mode) or (there.st_nlink > 1 and there.st_size > 0):
            raise OutputError(
                f"{self._lock}: is not the lock file of sshtool; remove it, or name another folder with --cache-dir"
            )

    def require_space(self) -> None:
        """Raises OutputError if the disk cannot hold what is still missing."""
        missing = self.archive.size - self.part_size()
        free = shutil.disk_usage(self.folder).free
        if free < missing:
            raise OutputError(
                f"{self.folder}: {missing} bytes of {self.archive.name} are missing, and there is room for {free}; "
                "free space, or name another folder with --cache-dir"
            )

    def part_size(self) -> int:
        """In bytes; 0 for what this program has not left there: a link, no file, or one that has other names too."""
        try:
            there = self._part.lstat()
        except FileNotFoundError:
            return 0
        return there.st_size if stat.S_ISREG(there.st_mode) and there.st_nlink == 1 else 0

    def resumable(self, source: str) -> tuple[int, str]:
        """How many bytes of that source are there to go on from, and their validator; (0, "") if there are none that
        could be trusted to be the same file's.
        """
        origin = self.origin()
        size = self.part_size()
        if origin is None or origin.source != source or not origin.validator or size >= self.archive.size:
            return 0, ""
        return (size, origin.validator) if size else (0, "")

    @contextlib.contextmanager
    def begin(self, source: str, validator: str = "") -> Iterator[Writer]:
        """Start a new part. The old one goes first: it must never be taken for a part of the new source."""
        self.discard()
        try:
            origin = Origin(source=source, validator=validator)
        except pydantic.ValidationError:
            origin = Origin(source=source)  # what cannot be a header's value is no validator
        # Not staged: half of it is as good as none, and there is no part now that it could be wrong about.
        self._origin.unlink(missing_ok=True)
        with self._origin.open("x", encoding="utf-8") as file:  # "x" follows no link and opens nothing that is there
            file.write(origin.model_dump_json() + "\n")
        with self._part.open("xb") as part:
            yield Writer(part, self.archive)

    @contextlib.contextmanager
    def resume(self) -> Iterator[Writer]:
        """Go on with the part that is there."""
        with open(self._part, "r+b", opener=open_itself) as file:
            writer = Writer(file, self.archive)
            writer.read_what_is_there()
            yield writer

    def finish(self) -> bool:
        """Place a part that was complete when its process ended. Says whether that made the archive."""
        if self.part_size() != self.archive.size:
            return False
        try:
            with self.resume() as writer:
                pass
            self.place(writer)
        except WrongBytesError:
            return False
        return True

    def discard(self) -> None:
        """Throw the part away."""
        self._part.unlink(missing_ok=True)

    def remove_damaged(self) -> None:
        """Throw a cached archive away that is not good."""
        self.path.unlink(missing_ok=True)

    def place(self, writer: Writer) -> None:
        """Make the part, which `writer` has written to its end, the archive. Raises WrongBytesError unless it is; then
        the part is gone, if nothing that is added could still make it right.
        """
        try:
            writer.check()
        except WrongBytesError:
            if writer.size >= self.archive.size:
                self.discard()
            raise
        self._part.replace(self.path)


@contextlib.contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # who reads our progress has had enough
        raise
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); free space, change its permissions or name "
            "another folder with --cache-dir"
        ) from error


def _require_own(folder: Path, *, sticky: bool) -> None:
    try:
        there = folder.stat(follow_symlinks=sticky)
    except OSError:  # it is made later, or the reason is given then
        return
    others = stat.S_IWOTH if there.st_gid == os.getegid() else stat.S_IWOTH | stat.S_IWGRP
    if stat.S_ISLNK(there.st_mode):
        problem = "is a link"
    elif there.st_uid not in (os.geteuid(), 0):
        problem = f"belongs to another user (number {there.st_uid})"
    elif there.st_mode & others and not (sticky and there.st_mode & stat.S_ISVTX):
        problem = "can be written by others"
    else:
        return
    raise DownloadError(f"{folder}: {problem}; use a folder of your own with --cache-dir")
