"""The cache of downloaded files: a folder for each archive or loose file, named by the hash in the model's description.

<cache>/<hash>/ssh-model-final.zip    the complete archive, verified again before each use
<cache>/<hash>/.part                  an incomplete download, which the next run resumes
<cache>/<hash>/.source.json           the source of the archive, and its version there
<cache>/<hash>/.lock                  the lock of the downloading process; an empty file that stays

This module follows no links inside the folder and opens regular files only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import pydantic

from sshconvert.digest import SHOWN, stream_digest
from sshconvert.errors import DownloadError, OutputError
from sshconvert.models.spec import PinnedFile
from sshconvert.reading import open_itself, open_regular, read_small, state
from sshconvert.schema import Strict, parse_json
from sshtool.checkpoint.sources import SourceFailedError

BLOCK: Final = 1 << 20
LARGEST_ORIGIN: Final = 1 << 16


class WrongBytesError(SourceFailedError):
    """The source sent other bytes than the archive's."""


class Origin(Strict):
    """`.source.json`: the source without its secrets, and the ETag or Last-Modified that it sent."""

    source: str
    # The next request sends it in a header.
    validator: Annotated[str, pydantic.StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=1000)] = ""


class Writer:
    """Writes and hashes the archive's bytes in order, up to the archive's size."""

    def __init__(self, file: BinaryIO, archive: PinnedFile) -> None:
        self._file, self._archive = file, archive
        self._digest = hashlib.new(archive.algorithm)
        self.size = 0

    def read_part(self) -> None:
        """Hash the bytes of the existing part."""
        while block := self._file.read(BLOCK):
            self._count(block)

    def write(self, block: bytes) -> None:
        """Write a block. Raises WrongBytesError before writing past the archive's size."""
        if self.size + len(block) > self._archive.size:
            raise WrongBytesError(f"sends more than the {self._archive.size} bytes of {self._archive.name}")
        self._count(block)
        self._file.write(block)

    def check(self) -> None:
        """Raises WrongBytesError unless size and hash are the archive's."""
        if self.size != self._archive.size:
            raise WrongBytesError(f"ended after {self.size} of {self._archive.size} bytes")
        digest, expected = self._digest.hexdigest(), self._archive.digest
        if digest != expected:
            algorithm = SHOWN[self._archive.algorithm]
            raise WrongBytesError(f"sent {self.size} bytes with {algorithm} {digest}, expected {expected}")

    def _count(self, block: bytes) -> None:
        self.size += len(block)
        self._digest.update(block)


class Entry:
    """The folder of an archive or a loose file in the cache. Call only `is_good`, `require_trusted` and
    `origin` outside `locked`.
    """

    def __init__(self, cache: Path, archive: PinnedFile) -> None:
        self.archive = archive
        self.cache = cache
        self.folder = cache / archive.digest
        self.path = self.folder / archive.name
        self._part = self.folder / ".part"
        self._origin = self.folder / ".source.json"
        self._lock = self.folder / ".lock"

    def is_good(self) -> bool:
        """Whether the cache holds the archive with the pinned size and hash."""
        try:
            with open_regular(self.path, follow=False) as file:
                is_complete = state(file)[0] == self.archive.size
                return is_complete and stream_digest(file, self.archive.algorithm) == self.archive.digest
        except OSError:
            return False

    def require_trusted(self) -> None:
        """Raises DownloadError if another user could put links or other archives into the cache.

        The cache belongs to this user or to root; only they and the user's own group may write there. In a sticky
        folder such as /tmp, where all users may write, the entry's own folder decides. Windows keeps a user's folders
        from others itself.
        """
        _require_own(self.cache, sticky=True)
        _require_own(self.folder, sticky=False)

    def origin(self) -> Origin | None:
        """The origin of the archive or its part; None if it is unknown."""
        try:
            return parse_json(Origin, read_small(self._origin, LARGEST_ORIGIN, follow=False))
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None], patience: float) -> Iterator[None]:
        """Lock the entry against other processes.

        Raises:
            DownloadError: Another process holds the lock for more than `patience` seconds.
            OutputError: The block or the lock cannot write here.

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
        """Raises OutputError if the lock's path holds another file, which locking would open and write."""
        try:
            status = self._lock.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and status.st_size > 0):
            raise OutputError(
                f"{self._lock}: is not the lock file of sshtool; remove it, or name another folder with --cache-dir"
            )

    def require_space(self) -> None:
        """Raises OutputError if the disk has no room for the missing bytes."""
        missing = self.archive.size - self.part_size()
        free = shutil.disk_usage(self.folder).free
        if free < missing:
            raise OutputError(
                f"{self.folder}: {missing} bytes of {self.archive.name} are missing, and there is room for {free}; "
                "free space, or name another folder with --cache-dir"
            )

    def part_size(self) -> int:
        """In bytes; 0 for a link, a special file, or a file with other hard links: sshtool leaves none of these."""
        try:
            status = self._part.lstat()
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0

    def resumable(self, source: str) -> tuple[int, str]:
        """Bytes of the part and its validator; (0, "") unless the part is of that source and of a known version."""
        origin, size = self.origin(), self.part_size()
        if origin and origin.source == source and origin.validator and 0 < size < self.archive.size:
            return size, origin.validator
        return 0, ""

    @contextlib.contextmanager
    def begin(self, source: str, validator: str = "") -> Iterator[Writer]:
        """Start a new part. Removes the old part first, which belongs to another source or version."""
        self.discard()
        try:
            origin = Origin(source=source, validator=validator)
        except pydantic.ValidationError:
            origin = Origin(source=source)  # a validator must be a header's value
        # Needs no staging: an incomplete origin counts as none, and no part exists yet.
        self._origin.unlink(missing_ok=True)
        with self._origin.open("x", encoding="utf-8") as file:  # "x" follows no link and opens no existing file
            file.write(origin.model_dump_json() + "\n")
        with self._part.open("xb") as part:
            yield Writer(part, self.archive)

    @contextlib.contextmanager
    def resume(self) -> Iterator[Writer]:
        """Continue the existing part."""
        with open(self._part, "r+b", opener=open_itself) as file:
            writer = Writer(file, self.archive)
            writer.read_part()
            yield writer

    def finish(self) -> bool:
        """Place a part that an earlier process completed. Returns whether it is the archive."""
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
        """Remove the part."""
        self._part.unlink(missing_ok=True)

    def place(self, writer: Writer) -> None:
        """Rename the part that `writer` wrote to the archive.

        Raises WrongBytesError if it is not the archive. A part that is too short stays; others are removed.
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
    except BrokenPipeError:  # the reader of the progress closed the pipe
        raise
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); free space, change its permissions or name "
            "another folder with --cache-dir"
        ) from error


def _require_own(folder: Path, *, sticky: bool) -> None:
    try:
        problem = _access_of_others(folder.stat(follow_symlinks=sticky), sticky=sticky)
    except OSError:  # creating the folder reports the reason
        return
    if problem:
        raise DownloadError(f"{folder}: {problem}; use a folder of your own with --cache-dir")


def _access_of_others(status: os.stat_result, *, sticky: bool) -> str:
    """Return what lets other users into a folder of this status, "" for nothing."""
    if sys.platform != "win32":
        others = stat.S_IWOTH if status.st_gid == os.getegid() else stat.S_IWOTH | stat.S_IWGRP
        if stat.S_ISLNK(status.st_mode):
            return "is a link"
        if status.st_uid not in (os.geteuid(), 0):
            return f"belongs to another user (number {status.st_uid})"
        if status.st_mode & others and not (sticky and status.st_mode & stat.S_ISVTX):
            return "can be written by others"
    return ""
