"""Reading a file once into memory, so that the checked and hashed bytes are the bytes in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.digest import blocks_sha256
from sshconvert.errors import SSHToolError
from sshconvert.reading import open_regular
from sshconvert.recognition import HEAD

# Bytes that are read and then hashed: few enough to stay in the processor's cache.
BLOCK: Final = 1 << 18
# The resolution of file times in seconds: two changes within one tick have the same time.
CLOCK_TICK: Final = 0.02
PATIENCE: Final = 10  # ticks to wait for the writer of the file


@dataclass(frozen=True)
class Snapshot:
    """A read-only copy of a file's bytes, and their SHA-256 in hexadecimal."""

    path: Path
    data: memoryview
    sha256: str


def take_snapshot(
    path: Path, error: type[SSHToolError], *, limit: int, check: Callable[[bytes], object] = lambda _: None
) -> Snapshot:
    """Read a whole file of at most `limit` bytes, once.

    `check` receives the file's first bytes before the memory for all bytes is allocated, and raises if they are wrong.
    Raises `error` if the path is no readable file, the file is too large, or it changes meanwhile.
    """
    try:
        with open_regular(path) as file:
            before = _settled(path, file.fileno(), error)
            check(file.read(HEAD))
            if before.st_size > limit:
                raise error(
                    f"{path}: the file: is larger than {limit} bytes, more than any checkpoint needs; check the path"
                )
            file.seek(0)
            # NumPy asks the kernel for large pages, which cost less to fill than small ones.
            memory = np.empty(before.st_size, np.uint8).data
            sha256 = blocks_sha256(_filled(memory, file))
            after = os.fstat(file.fileno())
            is_complete = file.tell() == before.st_size and not file.read(1)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); check the path") from problem
    except MemoryError:
        raise error(f"{path}: there is no memory for its {before.st_size} bytes; free memory") from None
    if not is_complete or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _changed(path, error)
    return Snapshot(path, memory.toreadonly(), sha256)


def _filled(memory: memoryview, file: BufferedReader) -> Iterator[memoryview]:
    """Read a file into memory. Yield each block while it is in the processor's cache."""
    filled = 0
    while count := file.readinto(memory[filled : filled + BLOCK]):
        yield memory[filled : filled + count]
        filled += count


def _settled(path: Path, descriptor: int, error: type[SSHToolError]) -> os.stat_result:
    """Return the status of a file that is old enough for any later change to show in its times."""
    for _ in range(PATIENCE):
        status = os.fstat(descriptor)
        if not 0 <= time.time() - status.st_mtime < CLOCK_TICK:
            return status
        time.sleep(CLOCK_TICK)
    raise _changed(path, error)


def _changed(path: Path, error: type[SSHToolError]) -> SSHToolError:
    return error(f"{path}: changed while it was read; try again when its writer has finished")
