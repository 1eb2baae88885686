"""Opening files that somebody else made: a path may lead to anything, and a file may change under its reader."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

State = tuple[int, int, int]


def is_file(path: Path) -> bool:
    """Whether a regular file is there. Unlike `Path.is_file`, also for names that no file system takes."""
    return os.path.isfile(path)  # noqa: PTH113  # that one raises OSError for a name that is too long


def is_folder(path: Path) -> bool:
    """Whether a folder is there, likewise."""
    return os.path.isdir(path)  # noqa: PTH112  # as above


def is_there(path: Path) -> bool:
    """Whether anything is there, likewise. A link that leads nowhere is nothing."""
    return os.path.exists(path)  # noqa: PTH110  # as above


def matching(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has such a name, sorted; nothing, if there is no folder, whatever its name."""
    return sorted(folder.glob(pattern)) if is_folder(folder) else []


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file to read. Raises OSError for all that is none: to open a pipe would wait for its writer.

    With `follow` False a symbolic link is none either, where the system can tell (not on Windows).
    """
    opener = _open_at_once if follow else open_itself
    try:
        file = open(path, "rb", opener=opener)  # noqa: SIM115  # the caller closes it
    except ValueError as error:  # a zero byte, or what the file system's encoding does not have
        raise OSError(errno.EINVAL, "no file can have that name") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a file")
    return file


def read_small(path: Path, largest: int, *, follow: bool = True) -> bytes:
    """All of a regular file. Raises OSError if it cannot be read, is larger than `largest` bytes, or changes.

    `follow` is as in `open_regular`.
    """
    with open_regular(path, follow=follow) as file:
        before = state(file)
        if before[0] > largest:
            raise OSError(errno.EFBIG, f"it has more than {largest} bytes")
        data = file.read(before[0] + 1)
        if state(file) != before or len(data) != before[0]:
            raise OSError(errno.EBUSY, "it changed while it was read")
    return data


def state(file: BinaryIO) -> State:
    """Size and times of an open file: other ones later mean that it was changed."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # which Windows has not, and regular files ignore


def open_itself(path: str, flags: int) -> int:
    """An `opener` for `open` that follows no link to a file and waits for no writer of a pipe."""
    return _open_at_once(path, flags | getattr(os, "O_NOFOLLOW", 0))
