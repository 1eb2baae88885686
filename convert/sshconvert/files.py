"""Atomic writes: no reader and no crash ever sees a part of a file.

The functions write into a hidden staging folder, `.sshtool-…`, beside the target, and rename the complete file over the
target. The target is therefore absent, old or new at any time. A symbolic link is replaced, and the file behind it
stays. Folders, devices and pipes are refused.

A process holds a lock in each of its staging folders. A free lock belongs to a process that was killed: the next
process that stages in the same place removes the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sshconvert.errors import OutputError
from sshconvert.reading import is_folder, is_there

if TYPE_CHECKING:
    from filelock import BaseFileLock

PREFIX: Final = ".sshtool-"
LOCK: Final = ".lock"
OLD: Final = ".old"  # the subfolder of a staging folder for the folder that is being replaced

PRIVATE: Final = 0o700

_REMEDIES: Final = {
    errno.ENOSPC: "free space there or name another folder",
    errno.EDQUOT: "free space there or name another folder",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "name another folder",
    errno.EACCES: "change its permissions or name another folder",
    errno.EPERM: "change its permissions or name another folder",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOTDIR: "a file is in the place of a folder: name another folder",
    errno.EEXIST: "a file is in the place of a folder: name another folder",
}

# Errors that only writing raises.
_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Staging folders of this process, from before their creation until after their removal.
_staging: Final[dict[Path, BaseFileLock | None]] = {}


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a path to write to, and rename that file over `target` at the end of the block.

    On an exception, `target` stays as it was. Raises OutputError if the folder or the file cannot be written.
    """
    with output_errors(target):
        check_replaceable(target)
        with _temporary_folder(target.parent) as folder:
            path = folder / target.name
            yield path
            path.replace(target)


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Yield a new staging folder in `parent`, which is created if it is missing, and remove it at the end.

    Raises OutputError if the folder cannot be created, or if writing in the block fails.
    """
    with output_errors(parent), _temporary_folder(parent) as folder:
        yield folder


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new staging folder in the system's folder for temporary files, and remove it at the end.

    Raises OutputError if the folder cannot be created, or if it has no room for the block's files.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(Path("temporary files")):
            parent = Path(tempfile.gettempdir())
        with output_errors(parent):
            folder = stack.enter_context(_temporary_folder(parent))
        try:
            yield folder
        except OSError as error:  # other errors may come from files that the block reads
            if error.errno not in _WRITING:
                raise
            with output_errors(Path(error.filename or folder)):
                raise


def replace_files(new: Sequence[Path], targets: Sequence[Path], staging: Path) -> None:
    """Replace the files of one artifact, such as .xml and .bin, and never leave a new one beside an old one.

    The first target is the file that readers open. It is removed before the others change and comes back last, so a
    crash leaves it absent. On an exception, all targets stay as they were. The old files move into `staging`, a staging
    folder.
    """
    for target in targets:
        check_replaceable(target)
    stash = staging / f"replaced-{secrets.token_hex(4)}"
    stash.mkdir()
    backwards = list(reversed(list(zip(new, targets, strict=True))))
    with _alone_in(targets[0].parent):
        try:
            for target in targets:
                with contextlib.suppress(FileNotFoundError):
                    target.rename(stash / target.name)
            for path, target in backwards:
                path.rename(target)
        except BaseException:
            if is_there(new[0]):  # the last rename has not happened
                for path, target in backwards:
                    if is_there(old := stash / target.name):
                        old.replace(target)
                    elif not is_there(path):
                        target.unlink(missing_ok=True)
            raise


def replace_folder(new: Path, target: Path, *, keep_others: bool = True) -> None:
    """Replace the folder `target` by `new`, which lies in a staging folder beside it.

    With `keep_others`, entries of `target` that `new` lacks are kept: they belong to the user. A crash between the two
    renames leaves `target` absent; removing the staging folder puts the old one back.
    """
    old = new.parent / OLD / target.name
    old.parent.mkdir(exist_ok=True)
    with _alone_in(target.parent):
        status = _status(target)
        if status and not stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{target}: is a file in the place of a folder; move it away or name another folder")
        if not status:
            new.rename(target)
            return
        if keep_others:
            _carry_over(target, new)
        target.rename(old)
        new.rename(target)
        old.rename(new.parent / "replaced")  # out of `OLD`, so that `_discard` does not put it back


def check_replaceable(target: Path) -> None:
    """Raise OutputError if the target is a folder, or a device, which root could replace."""
    with output_errors(target):
        status = _status(target)
        if status and not stat.S_ISREG(status.st_mode):
            raise OutputError(f"{target}: cannot be written (it exists and is not a file); name another file")


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names `target`, or the folder that it is staged for."""
    try:
        yield
    except BrokenPipeError:  # the reader of stdout or stderr has closed it
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "free space, change its permissions or name another folder")
        if _is_temporary(target):
            remedy = remedy.replace("name another folder", "set TMPDIR to another folder")
        raise OutputError(f"{_visible(target)}: cannot be written ({error.strerror or error}); {remedy}") from error


def remove_staging() -> None:
    """Remove the remaining staging folders of this process, which is about to end."""
    for folder in list(_staging):
        _remove(folder)


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
    try:
        while not (_make(folder) and (status := _status(folder))):  # another process may have just removed it
            _remove(folder)
            folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
        _remove_dead(parent, status.st_uid)
        yield folder
    finally:
        _remove(folder)


def _make(folder: Path) -> bool:
    """Create and lock a staging folder. Return False if another process takes it for a dead one's and removes it."""
    _staging[folder] = None  # before its creation, in case of an interruption
    folder.mkdir(PRIVATE)
    try:
        _staging[folder] = _lock(folder)
    except (TimeoutError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks, where `_remove_dead` removes nothing
        return True
    return is_there(folder / LOCK)


def _lock(folder: Path) -> BaseFileLock:
    """Lock a staging folder. Raises OSError if that fails, and its subclass TimeoutError if its process lives."""
    from filelock import FileLock

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, str(error)) from error
    return lock


def _remove_dead(parent: Path, user: int) -> None:
    """Remove the staging folders in `parent` that this user's killed processes left."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or not is_folder(folder) or folder.stat().st_uid != user:
                continue
            if any(folder.name == own.name for own in tuple(_staging)):  # a copy, for other threads add
                continue
            lock = _lock(folder)
            _discard(folder)
            lock.release()


def _remove(folder: Path) -> None:
    """Remove a staging folder of this process, unless it has been removed."""
    if folder not in _staging:
        return
    lock = _staging[folder]
    _discard(folder)
    if lock is not None:
        lock.release()
    _staging.pop(folder, None)


def _discard(folder: Path) -> None:
    """Remove a staging folder. First put back the folders in `OLD` whose replacement never came."""
    for old in (folder / OLD).glob("*"):
        target = folder.parent / old.name
        with contextlib.suppress(OSError), _alone_in(folder.parent):
            if not is_there(target):
                old.rename(target)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from replacing anything in `folder` during the block (except on Windows).

    This locks the folder itself: `filelock` would leave a lock file in the user's folder.
    """
    if sys.platform == "win32":
        yield
    else:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a path, or of the file behind a link; None if it does not exist."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _carry_over(folder: Path, new: Path) -> None:
    """Add the entries of `folder` that `new` lacks, as hard links if possible."""
    for path in folder.iterdir():
        copy = new / path.name
        if path.name.startswith(PREFIX) or is_there(copy):
            continue
        if is_folder(path) and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True, copy_function=_link)
        else:
            _link(path, copy)


def _link(path: str | Path, copy: str | Path) -> None:
    try:
        os.link(path, copy, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(path, copy, follow_symlinks=False)


def _visible(path: Path) -> str:
    """Return the path without a staging folder in it: that is gone by the time of the message."""
    for hidden in (path, *path.parents):
        if hidden.name.startswith(PREFIX):
            return f"{hidden.parent}: {path.relative_to(hidden)}" if path != hidden else str(hidden.parent)
    return str(path)


def _is_temporary(path: Path) -> bool:
    """Return whether the path is the system's folder for temporary files, or lies in a staging folder there."""
    try:
        folder = Path(tempfile.gettempdir())
    except OSError:
        return True  # the system has no such folder
    return path == folder or any(
        hidden.name.startswith(PREFIX) and hidden.parent == folder for hidden in (path, *path.parents)
    )
