"""One source on this machine: a file, which is copied so that what is unpacked later is what was verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sshconvert.reading import open_regular
from sshtool.checkpoint.cache import BLOCK, Entry
from sshtool.checkpoint.sources import Source, SourceFailedError


def copy(source: Source, path: Path, entry: Entry, received: Callable[[int], None]) -> None:
    """Place the archive from that path in the cache. `received` is told how many bytes of it are there.

    Raises SourceFailedError if it cannot be read or is not the archive.
    """
    size = _size(path)
    if size != entry.archive.size:
        raise SourceFailedError(f"has {size} bytes, expected {entry.archive.size}")
    with entry.begin(source.shown) as writer:
        for block in _blocks(path):
            writer.write(block)
            received(writer.size)
    entry.place(writer)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise SourceFailedError(f"cannot be read ({error.strerror or error})") from None


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise SourceFailedError(f"cannot be read ({error.strerror or error})") from None
