"""Packages as tar: refused by name, or read as `tarfile` reads them. See `fuzzing`.

What is fuzzed is the tar inside the gzip, whose checksum no fuzzer guesses.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

from fuzzing import fuzz


def read_as_tarfile_does(data: bytes) -> list[tuple[str, bytes]]:
    """The names and contents of the files in a tar."""
    files = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                raise AssertionError(f"{member.name!r} is no file")
            files.append((member.name, content.read()))
    return files


def load() -> Callable[[bytes], object]:
    from sshtool.archives.tar_layout import read_files
    from sshtool.archives.zip_check import ArchiveLimits
    from sshtool.archives.zip_layout import RefusedError

    def check(data: bytes) -> None:
        packed = io.BytesIO(gzip.compress(data, 0, mtime=0))
        try:
            found = [(file.name, b"".join(file.pieces)) for file in read_files(packed, ArchiveLimits(largest=1 << 20))]
        except RefusedError:
            return
        if found != read_as_tarfile_does(data):
            raise AssertionError(f"{found} was read")

    return check


if __name__ == "__main__":
    fuzz(load)
