"""A source on this machine: a file, copied into the cache so that later steps unpack the verified bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sshconvert.reading import open_regular
from sshtool.checkpoint.cache import BLOCK, Entry
from sshtool.checkpoint.sources import Source, SourceFailedError


def copy(source: Source, path: Path, entry: Entry, received: Callable[[int], None]) -> None:
    """Copy the archive from a path into the cache. `received` takes the number of bytes so far.

    Raises SourceFailedError if the file cannot be read or is not the archive.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(error) from None
    if size != entry.archive.size:
        raise SourceFailedError(f"has {size} bytes, expected {entry.archive.size}")
    with entry.begin(source.shown) as writer:
        for block in _blocks(path):
            writer.write(block)
            received(writer.size)
    entry.place(writer)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> SourceFailedError:
    return SourceFailedError(f"cannot be read ({error.strerror or error})")
