"""What lies in the folder of a package: names and sizes first, in bounded time, before a byte is read."""

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
    """The size of every regular file, by its path in the package, and what must not be there: a path and why.

    `complete` if all was looked at; `too_large` if there is more to be read than any package has.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True
    too_large: bool = False


def list_contents(folder: Path) -> Contents:
    """Look at everything in the folder. Links are not followed. After `MOST_ENTRIES` entries it is given up."""
    found = Contents()
    try:
        for path, status in _walk(folder):
            name = path.relative_to(folder).as_posix()
            if problem := _kind(status) or fault(name):
                found.faults.append((name, problem))
            else:
                found.sizes[name] = status.st_size
    except (OSError, ValueError) as error:
        found.complete = False
        listing = f"a folder in it cannot be listed ({error.strerror})" if isinstance(error, OSError) else str(error)
        found.faults.append((".", listing))
    if twins := collision(found.sizes):
        found.faults.append((twins[1], f"is the same as {twins[0]} on systems that know no case"))
    if sum(found.sizes.values()) > LARGEST:
        found.too_large = True
        found.faults.append((".", f"its files have more than {LARGEST} bytes together"))
    return found


def hash_file(path: Path, size: int) -> str:
    """SHA-256 of a file of that size. Raises OSError if it cannot be read or has another size by now."""
    with open_regular(path) as file:
        digest = stream_sha256(file)
        if file.tell() != size:
            raise OSError(0, "it changes while it is read")
    return digest


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything in a folder that is no folder, or an empty one, always in the same order. Links are not followed.

    Raises OSError if a folder cannot be listed, ValueError if there is more than any package has.
    """
    folders, left = [folder], MOST_ENTRIES
    while folders:
        here = folders.pop()
        with os.scandir(here) as listed:
            entries = sorted(islice(listed, left + 1), key=lambda entry: entry.name)
        left -= len(entries)
        if left < 0:
            raise ValueError(f"there are more than {MOST_ENTRIES} files and folders")
        if not entries and here != folder:
            yield here, here.lstat()
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _kind(status: os.stat_result) -> str:
    """What is wrong with an entry that is no regular file."""
    kinds = {stat.S_IFREG: "", stat.S_IFLNK: "it is a link", stat.S_IFDIR: "it is an empty folder"}
    return kinds.get(stat.S_IFMT(status.st_mode), "it is not a file")
