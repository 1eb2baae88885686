"""Selection of images by files, folders, patterns, and URLs of object stores."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.reading import is_file, is_folder, is_there
from sshconvert.schema import one_line
from sshtool.images import readable_extensions
from sshtool.limits import MOST_FILES, MOST_IMAGES
from sshtool.stores import ImageFile, StoredFile, is_url, list_store

STANDARD_INPUT: Final = "-"


def select_images(arguments: Sequence[str | Path], *, remedy: str = "name fewer") -> tuple[ImageFile, ...]:
    """Return the distinct images of the arguments, in their order.

    A file may have any extension. A folder gives its files with an image's extension, sorted, except hidden ones and
    those of subfolders. A pattern (`*`, `?`, `[…]`, and `**` for folders at any depth) gives the files that it
    matches, sorted. A URL of a store (`s3://bucket/folder`) names files, folders and patterns there.

    Raises UsageError if an argument gives no file or they give more than MOST_FILES, with the `remedy` for that, and
    RuntimeUnavailableError without Pillow or the library of a store.
    """
    images: dict[ImageFile, ImageFile] = {}
    for image in (image_of(name) for argument in arguments for name in _expand(str(argument), MOST_FILES)):
        images.setdefault(image.resolve(), image)
        if len(images) > MOST_FILES:
            raise UsageError(f"{one_line(arguments[0])}: more than {MOST_FILES} images; {remedy}")
    return tuple(images.values())


def list_images(arguments: Sequence[str | Path]) -> list[str]:
    """Return the names of up to MOST_IMAGES images, for `image_of`: as `select_images`, but for millions of images.

    A name takes about a hundred bytes. Names are distinct as they are written; links are not followed. Raises what
    `select_images` raises.
    """
    names = [name for argument in arguments for name in _expand(str(argument), MOST_IMAGES)]
    if len(names) > MOST_IMAGES:
        raise UsageError(f"{one_line(arguments[0])}: more than {MOST_IMAGES} images; name fewer")
    return names if len(arguments) == 1 else list(dict.fromkeys(names))


def image_of(name: str) -> ImageFile:
    """Return the file that a path or a URL names."""
    return StoredFile(name) if is_url(name) else Path(name)


def _expand(argument: str, most: int) -> Iterable[str]:
    if argument == STANDARD_INPUT:
        raise UsageError("-: images are not read from standard input; name a file, a folder, a pattern or a URL")
    if is_url(argument):
        return islice(list_store(argument, readable_extensions()), most + 1)
    try:
        return _files_of(argument, most)
    except OSError as error:
        raise UsageError(f"{argument}: cannot be looked up ({error.strerror}); change its permissions") from None
    except ValueError as error:  # a zero byte
        raise UsageError(f"{argument!r}: cannot be looked up ({error}); correct the name") from None


def _files_of(argument: str, most: int) -> Iterable[str]:
    path = Path(argument)
    if is_folder(path):
        return _images_of(path, most)
    if is_there(path):  # even if the name looks like a pattern
        return [argument]
    if not glob.has_magic(argument):
        raise UsageError(f"{argument}: does not exist; name an image file, a folder or a pattern")
    files = (name for name in glob.iglob(argument, recursive=True) if is_file(Path(name)))  # noqa: PTH207  # a pattern may be absolute
    matches = sorted(islice(files, most + 1), key=Path)
    if not matches:
        raise UsageError(f"{argument}: matches no file; correct the pattern")
    return matches


def _images_of(folder: Path, most: int) -> Iterable[str]:
    extensions = readable_extensions()
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith("."))
        files = (item.name for item in visible if _extension(item.name) in extensions and _is_file(item))
        names = sorted(islice(files, most + 1))
    if not names:
        raise UsageError(f"{folder}: holds no image files; for those of subfolders, give '{folder}/**/*.jpg'")
    return (os.path.join(folder, name) for name in names)  # noqa: PTH118  # a `Path` for each of millions takes long


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # as above


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False
