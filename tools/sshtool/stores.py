"""Files in an object store, by URL: "s3://bucket/photos/a.jpg". fsspec and the store's own library read them.

Only the stores in `STORES` are read, because other schemes of fsspec run programs, unpack archives or get web pages.
fsspec takes addresses, keys and other settings from the environment and its configuration, never from a URL's query.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

from sshconvert.errors import ImageError, UsageError
from sshconvert.libraries import ADLFS, FSSPEC, GCSFS, S3FS, Library, importing
from sshconvert.schema import one_line

STORES: Final[dict[str, Library]] = {
    "file": FSSPEC,
    "s3": S3FS,
    "gs": GCSFS,
    "gcs": GCSFS,
    "az": ADLFS,
    "abfs": ADLFS,
    "abfss": ADLFS,
}

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]+)://")
_MAGIC: Final = re.compile(r"[*?[]")


@dataclass(frozen=True)
class StoredFile(os.PathLike[str]):
    """A file in a store, or a folder there. It has the names that a `Path` has."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    @property
    def parent(self) -> StoredFile:
        return StoredFile(self.url.rpartition("/")[0])

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.url).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.url).suffix

    def __truediv__(self, name: str | PurePosixPath) -> StoredFile:
        return StoredFile(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    def resolve(self) -> StoredFile:
        return self

    def read(self, most: int) -> bytes:
        """Read the file. Raises ImageError if it cannot be read or has more than `most` bytes."""
        system, path = _opened(self.url)
        try:
            data = bytes(system.cat_file(path, start=0, end=most + 1))  # one request
        except Exception as error:  # noqa: BLE001  # stores have errors of their own
            raise ImageError(f"{self.url}: cannot be read ({_reason(error)}); name a file of the store") from None
        if len(data) > most:
            raise ImageError(f"{self.url}: has more than {most} bytes, more than any image has; scale it down")
        return data


ImageFile: TypeAlias = Path | StoredFile


def is_url(argument: str) -> bool:
    """Whether an argument is a URL, and not a path."""
    return _SCHEME.match(argument) is not None


def check_url(url: str) -> None:
    """Refuse a URL that no store here reads.

    Raises UsageError for an unknown scheme, and RuntimeUnavailableError without the store's library.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES)
        raise UsageError(f"{one_line(url)}: images are read from {known}; get the file first, and name it by its path")
    with importing(STORES[scheme]):
        import fsspec

        fsspec.get_filesystem_class(scheme)


def list_store(url: str, extensions: frozenset[str]) -> Iterator[str]:
    """Yield URLs: of a file itself; of a folder's files with one of the extensions, sorted; of a pattern's matches.

    Raises UsageError if there are none, and what `check_url` raises.
    """
    check_url(url)
    system, path = _opened(url)
    scheme = url.partition("://")[0]
    with _listing(url):
        if _MAGIC.search(path):
            names = sorted(name for name, entry in system.glob(path, detail=True).items() if entry["type"] == "file")
        elif system.isdir(path):
            names = sorted(_images(system.ls(path, detail=True), extensions))
        else:
            names = [path] if system.exists(path) else []
    if not names:
        raise UsageError(f"{one_line(url)}: holds no image; name a file, a folder of images, or a pattern of the store")
    root = "/" if scheme.lower() == "file" else ""
    yield from (f"{scheme}://{root}{name.lstrip('/')}" for name in names)


def _images(entries: list[dict[str, Any]], extensions: frozenset[str]) -> Iterator[str]:
    for entry in entries:
        name = PurePosixPath(entry["name"])
        if entry["type"] == "file" and name.suffix.lower() in extensions and not name.name.startswith("."):
            yield str(entry["name"])


def _opened(url: str) -> tuple[Any, str]:
    """The file system and the path in it. It keeps no listings, which would stay in memory."""
    import fsspec

    with _listing(url):
        system, path = fsspec.url_to_fs(url, use_listings_cache=False)
    return system, str(path)


@contextmanager
def _listing(url: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # stores have errors of their own
        raise UsageError(
            f"{one_line(url)}: cannot be looked up ({_reason(error)}); check the address and the permissions"
        ) from None


def _reason(error: Exception) -> str:
    return one_line(error) or type(error).__name__
