"""Writing files so that a reader, or a crash, never sees a part of one.

What is written lies in a hidden folder, `.sshtool-…`, beside its target until it is whole. Then it is renamed over the
target, which is therefore absent, old or new. A target that is a symbolic link is replaced; what it points to stays as
it is. A folder, device or pipe is refused.

A hidden folder holds a lock for as long as its process lives. Whoever stages in the same place later removes the
folders whose lock is free: they were left by a process that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
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
OLD: Final = ".old"  # in a hidden folder: what was in the place of a folder that is being replaced

PRIVATE: Final = 0o700

_REMEDIES: Final = {
    errno.ENOSPC: "free space there or name another folder",
    errno.EDQUOT: "free space there or name another folder",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "name another folder",
    errno.EACCES: "change its permissions or name another folder",
    errno.EPERM: "change its permissions or name another folder",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOTDIR: "there is a file where a folder has to be: name another folder",
    errno.EEXIST: "there is a file where a folder has to be: name another folder",
}

# What only writing can end in.
_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Hidden folders of this process: each is noted before it is made and struck out when it is gone.
_staging: Final[dict[Path, BaseFileLock | None]] = {}


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write to; rename it over `target` when the block ends well.

    On any exception the staged file is removed and `target` is left as it was. Raises OutputError if the folder or the
    file cannot be written.
    """
    with output_errors(target):
        check_replaceable(target)
        with _temporary_folder(target.parent) as folder:
            path = folder / target.name
            yield path
            path.replace(target)


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Give a new hidden folder inside `parent` (made if need be); remove it, with what is left in it, at the end.

    Raises OutputError if it cannot be made, or if what the block writes cannot be written.
    """
    with output_errors(parent), _temporary_folder(parent) as folder:
        yield folder


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a hidden folder in the system's place for temporary files, as `staging_folder` does elsewhere.

    Raises OutputError if it cannot be made, or if there is no room for what the block writes.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(Path("temporary files")):
            parent = Path(tempfile.gettempdir())
        with output_errors(parent):
            folder = stack.enter_context(_temporary_folder(parent))
        try:
            yield folder
        except OSError as error:  # others may be of what the block reads
            if error.errno not in _WRITING:
                raise
            with output_errors(Path(error.filename or folder)):
                raise


def replace_files(new: Sequence[Path], targets: Sequence[Path], staging: Path) -> None:
    """Put files that belong together in place of `targets`, never one's beside another's.

    The first, by which a reader finds the others, goes away before they change and comes back after them: a crash in
    between leaves it absent. On an exception all are as they were. `staging` is a staging folder, for the old ones.
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
            if is_there(new[0]):  # so not all of them are in place
                for path, target in backwards:
                    _undo(path, target, stash / target.name)
            raise


def replace_folder(new: Path, target: Path, *, keep_others: bool = True) -> None:
    """Put the folder `new`, which lies in a staging folder beside `target`, in its place, whole.

    What `target` holds under other names than `new` is not this program's: with `keep_others` it is carried over. A
    crash between the two renames leaves `target` absent; whoever removes the staging folder, now or later, puts the
    old one back.
    """
    old = new.parent / OLD / target.name
    old.parent.mkdir(exist_ok=True)
    with _alone_in(target.parent):
        there = _status(target)
        if there and not stat.S_ISDIR(there.st_mode):
            raise OutputError(f"{target}: is a file where a folder has to be; move it away or name another folder")
        if not there:
            new.rename(target)
            return
        if keep_others:
            _carry_over(target, new)
        target.rename(old)
        new.rename(target)
        old.rename(new.parent / "replaced")  # nobody puts it back any more


def check_replaceable(target: Path) -> None:
    """Refuse to put a file where something else is: a folder, or a device, which root could replace.

    Raises OutputError.
    """
    with output_errors(target):
        there = _status(target)
        if there and not stat.S_ISREG(there.st_mode):
            raise OutputError(f"{target}: cannot be written (it is there and no file); name another file")


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names `target`, or the folder in which it is staged."""
    try:
        yield
    except BrokenPipeError:  # who reads our progress has had enough
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "free space, change its permissions or name another folder")
        if _is_temporary(target):
            remedy = remedy.replace("name another folder", "set TMPDIR to another folder")
        raise OutputError(f"{_visible(target)}: cannot be written ({error.strerror or error}); {remedy}") from error


def remove_staging() -> None:
    """Remove the staging folders of this process that are still there: it has been told to end."""
    for folder in list(_staging):
        _remove(folder)


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
    try:
        while not (_make(folder) and (made := _status(folder))):  # another process may have just removed it
            _remove(folder)
            folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
        _remove_dead(parent, made.st_uid)
        yield folder
    finally:
        _remove(folder)


def _make(folder: Path) -> bool:
    """Make and lock a staging folder. False if another process took it for a dead one's in between, and removes it."""
    _staging[folder] = None  # before it is there, in case of an interruption
    folder.mkdir(PRIVATE)
    try:
        _staging[folder] = _lock(folder)
    except (TimeoutError, FileNotFoundError):
        return False
    except OSError:  # where nothing can be locked, nothing is ever taken for dead either
        return True
    return is_there(folder / LOCK)


def _lock(folder: Path) -> BaseFileLock:
    """Lock a staging folder. Raises OSError if that is not possible, TimeoutError among them if its process lives."""
    from filelock import FileLock

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, str(error)) from error
    return lock


def _remove_dead(parent: Path, user: int) -> None:
    """Remove the staging folders in `parent` that belong to that user, and to no process any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or not is_folder(folder) or folder.stat().st_uid != user:
                continue
            if any(folder.name == own.name for own in _staging):
                continue
            lock = _lock(folder)
            _discard(folder)
            lock.release()


def _remove(folder: Path) -> None:
    """Remove a staging folder of this process; do nothing if that has been done."""
    if folder not in _staging:
        return
    lock = _staging[folder]
    _discard(folder)
    if lock is not None:
        lock.release()
    _staging.pop(folder, None)


def _discard(folder: Path) -> None:
    """Remove a staging folder, but not what was moved into it to make room for something that never came."""
    for old in (folder / OLD).glob("*"):
        target = folder.parent / old.name
        with contextlib.suppress(OSError), _alone_in(folder.parent):
            if not is_there(target):
                old.rename(target)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process replaces anything in `folder` during the block, where folders can be locked (not on Windows).

    The lock is the folder's own: `filelock` needs a file, which would stay in the user's folder for good.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _undo(path: Path, target: Path, old: Path) -> None:
    if is_there(old):
        old.replace(target)
    elif not is_there(path):
        target.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    """What there is at a path, its links followed; None if there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _carry_over(folder: Path, new: Path) -> None:
    """Give `new` what only `folder` has, by hard links where they are possible."""
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
    """The path, or the folder in which it is staged and its place in it: a hidden folder has gone by then."""
    for hidden in (path, *path.parents):
        if hidden.name.startswith(PREFIX):
            return f"{hidden.parent}: {path.relative_to(hidden)}" if path != hidden else str(hidden.parent)
    return str(path)


def _is_temporary(path: Path) -> bool:
    """Whether it is the system's place for temporary files, or lies in a hidden folder there."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError:
        return True  # there is none
    return path == place or any(
        hidden.name.startswith(PREFIX) and hidden.parent == place for hidden in (path, *path.parents)
    )
