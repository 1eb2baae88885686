"""Lists the folder of a package: names and sizes, in bounded time, before reading any file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from sshconvert.digest import stream_sha256
from sshconvert.reading import open_regular
from sshtool.package.manifest import MOST_FILES
from sshtool.package.names import collision, fault
from sshtool.package.unpacking import LARGEST

MOST_ENTRIES: Final = 2 * MOST_FILES  # files and folders


@dataclass
class Contents:
    """The sizes of regular files by path in the package, and the faulty entries: path and reason.

    `complete` is False if a folder could not be listed. `too_large` is True if the files exceed `LARGEST` together.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True
    too_large: bool = False


def list_contents(folder: Path) -> Contents:
    """List the folder and its subfolders, up to `MOST_ENTRIES` entries, without following links."""
    contents = Contents()
    try:
        for path, status in _walk(folder):
            name = path.relative_to(folder).as_posix()
            if problem := _type_fault(status) or fault(name):
                contents.faults.append((name, problem))
            else:
                contents.sizes[name] = status.st_size
    except (OSError, ValueError) as error:
        contents.complete = False
        listing = f"a folder in it cannot be listed ({error.strerror})" if isinstance(error, OSError) else str(error)
        contents.faults.append((".", listing))
    if twins := collision(contents.sizes):
        contents.faults.append((twins[1], f"is the same as {twins[0]} on systems that ignore case"))
    if sum(contents.sizes.values()) > LARGEST:
        contents.too_large = True
        contents.faults.append((".", f"its files have more than {LARGEST} bytes together"))
    return contents


def hash_file(path: Path, size: int) -> str:
    """SHA-256 of a file. Raises OSError if it is unreadable or no longer has that size."""
    with open_regular(path) as file:
        digest = stream_sha256(file)
        if file.tell() != size:
            raise OSError(0, "it changes while it is read")
    return digest


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all files, links and empty folders in a fixed order, without following links.

    Raises OSError if a folder cannot be listed, ValueError after `MOST_ENTRIES` entries.
    """
    folders, remaining = [folder], MOST_ENTRIES
    while folders:
        current = folders.pop()
        with os.scandir(current) as listing:
            entries = sorted(islice(listing, remaining + 1), key=lambda entry: entry.name)
        remaining -= len(entries)
        if remaining < 0:
            raise ValueError(f"there are more than {MOST_ENTRIES} files and folders")
        if not entries and current != folder:
            yield current, current.lstat()
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _type_fault(status: os.stat_result) -> str:
    faults = {stat.S_IFREG: "", stat.S_IFLNK: "it is a link", stat.S_IFDIR: "it is an empty folder"}
    return faults.get(stat.S_IFMT(status.st_mode), "it is not a file")
