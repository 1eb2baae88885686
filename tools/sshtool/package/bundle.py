"""Packs a folder into an archive whose bytes depend on the folder's contents alone.

Members are sorted, have no owner, mode 0644, and one time: SOURCE_DATE_EPOCH, or 1980, the earliest time of a zip.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.files import staged
from sshconvert.reading import is_file

EARLIEST: Final = 315532800  # 1 January 1980, in seconds since 1970
LATEST: Final = 4354819199  # the end of 2107, the last year of a zip
MODE: Final = 0o644


def pack(folder: Path, target: Path, archive_type: str) -> None:
    """Write all files of `folder` into `target`, below one folder of the same name, or write nothing.

    `archive_type` is "zip" (stored: compression hardly shrinks weights) or "tar.gz". Raises OutputError, and UsageError
    for a SOURCE_DATE_EPOCH that is no time.
    """
    seconds = source_date()
    paths = {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if is_file(path)
    }
    with staged(target) as part:
        ARCHIVES[archive_type](part, dict(sorted(paths.items())), seconds)


def source_date() -> int:
    """SOURCE_DATE_EPOCH in seconds since 1970, clamped to the times that a zip can hold."""
    text = os.environ.get("SOURCE_DATE_EPOCH", str(EARLIEST))
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise UsageError(f"SOURCE_DATE_EPOCH: {text!r} is not a number of seconds since 1970; correct or unset it")
    return min(max(int(text), EARLIEST), LATEST)


def _zip(target: Path, paths: Mapping[str, Path], seconds: int) -> None:
    with zipfile.ZipFile(target, "w", strict_timestamps=True) as archive:
        for name, path in paths.items():
            member = zipfile.ZipInfo(name, time.gmtime(seconds)[:6])
            member.create_system = 3  # Unix, on every system
            member.external_attr = (0o100000 | MODE) << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _tar_gz(target: Path, paths: Mapping[str, Path], seconds: int) -> None:
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, path in paths.items():
            member = tarfile.TarInfo(name)
            member.mode, member.mtime, member.size = MODE, seconds, path.stat().st_size
            with path.open("rb") as source:
                archive.addfile(member, source)


ARCHIVES: Final[Mapping[str, Callable[[Path, Mapping[str, Path], int], None]]] = {"zip": _zip, "tar.gz": _tar_gz}
