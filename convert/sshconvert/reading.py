"""Opening untrusted files: a path may lead to a pipe or a device, and a file may change while it is read."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO


def is_file(path: Path) -> bool:
    """Return whether the path is a regular file: False for an invalid name too, for which `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113  # `Path.is_file` raises OSError for a name that is too long


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder; False for an invalid name."""
    return os.path.isdir(path)  # noqa: PTH112  # see `is_file`


def is_there(path: Path) -> bool:
    """Return whether the path exists; False for an invalid name and for a dangling link."""
    return os.path.exists(path)  # noqa: PTH110  # see `is_file`


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the sorted entries of a folder that match a pattern; none if the folder does not exist."""
    return sorted(folder.glob(pattern)) if is_folder(folder) else []


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading. Raises OSError for anything else: opening a pipe would wait for its writer.

    With `follow` False, symbolic links are refused too (except on Windows, which cannot tell).
    """
    opener = _open_at_once if follow else open_itself
    try:
        file = open(path, "rb", opener=opener)  # noqa: SIM115  # the caller closes it
    except ValueError as error:  # a zero byte, or a character that the file system cannot encode
        raise OSError(errno.EINVAL, "no file can have that name") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a file")
    return file


def read_small(path: Path, largest: int, *, follow: bool = True) -> bytes:
    """Read a regular file. Raises OSError if it cannot be read, is larger than `largest` bytes, or changes meanwhile.

    `open_regular` describes `follow`.
    """
    with open_regular(path, follow=follow) as file:
        before = state(file)
        if before[0] > largest:
            raise OSError(errno.EFBIG, f"it has more than {largest} bytes")
        data = file.read(before[0] + 1)
        if state(file) != before or len(data) != before[0]:
            raise OSError(errno.EBUSY, "it changed while it was read")
    return data


def state(file: BinaryIO) -> tuple[int, int, int]:
    """Return the size and times of an open file. A later difference means that the file has changed."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such flag; regular files ignore it


def open_itself(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses a symbolic link and does not wait for the writer of a pipe."""
    return _open_at_once(path, flags | getattr(os, "O_NOFOLLOW", 0))
