"""A file as it was at one moment: read once into memory, so that what is checked and hashed is what is used."""

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

# What is read and hashed at once: it stays in the processor's cache in between.
BLOCK: Final = 1 << 18
# File systems tell times this many seconds apart: within them, a second change leaves the time of the first.
CLOCK_TICK: Final = 0.02
PATIENCE: Final = 10  # ticks to wait for whatever writes the file


@dataclass(frozen=True)
class Snapshot:
    """The bytes of a file, in memory of their own and read-only, and their SHA-256 in hexadecimal."""

    path: Path
    data: memoryview
    sha256: str


def take_snapshot(
    path: Path, error: type[SSHToolError], *, limit: int, check: Callable[[bytes], object] = lambda _: None
) -> Snapshot:
    """Read a whole file of at most `limit` bytes, once.

    `check` is given the file's first bytes before the memory for all of them is taken, and raises if they will not do.
    Raises `error` if the file cannot be read, is no file or too large, or changes while it is read.
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
            whole = file.tell() == before.st_size and not file.read(1)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); check the path") from problem
    except MemoryError:
        raise error(f"{path}: there is no memory for its {before.st_size} bytes; free some") from None
    if not whole or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _changed(path, error)
    return Snapshot(path, memory.toreadonly(), sha256)


def _filled(memory: memoryview, file: BufferedReader) -> Iterator[memoryview]:
    """Read a file into memory, and give each block while the processor's cache still holds it."""
    filled = 0
    while count := file.readinto(memory[filled : filled + BLOCK]):
        yield memory[filled : filled + count]
        filled += count


def _settled(path: Path, descriptor: int, error: type[SSHToolError]) -> os.stat_result:
    """The status of a file, from which any change after now can be told."""
    for _ in range(PATIENCE):
        status = os.fstat(descriptor)
        if not 0 <= time.time() - status.st_mtime < CLOCK_TICK:
            return status
        time.sleep(CLOCK_TICK)
    raise _changed(path, error)


def _changed(path: Path, error: type[SSHToolError]) -> SSHToolError:
    return error(f"{path}: changed while it was read; try again when whatever writes it is done")
