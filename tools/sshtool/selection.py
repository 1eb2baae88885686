"""Selection of image files by files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from sshconvert.errors import UsageError
from sshconvert.reading import is_file, is_folder, is_there
from sshconvert.schema import one_line
from sshtool.images import readable_extensions
from sshtool.limits import MOST_FILES


def select_images(arguments: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the distinct image files of the arguments, in their order.

    A file may have any extension. A folder gives its files with an image's extension, sorted, except hidden ones and
    those of subfolders. A pattern (`*`, `?`, `[…]`, and `**` for folders at any depth) gives the files that it
    matches, sorted.

    Raises UsageError if an argument gives no file, and RuntimeUnavailableError without Pillow.
    """
    images: dict[Path, Path] = {}
    for path in (path for argument in arguments for path in _expand(str(argument))):
        images.setdefault(path.resolve(), path)
        if len(images) > MOST_FILES:
            raise UsageError(f"{one_line(arguments[0])}: more than {MOST_FILES} images; name fewer")
    return tuple(images.values())


def _expand(argument: str) -> list[Path]:
    try:
        return _files_of(argument)
    except OSError as error:
        raise UsageError(f"{argument}: cannot be looked up ({error.strerror}); change its permissions") from None
    except ValueError as error:  # a zero byte
        raise UsageError(f"{argument!r}: cannot be looked up ({error}); correct the name") from None


def _files_of(argument: str) -> list[Path]:
    path = Path(argument)
    if is_folder(path):
        return _images_of(path)
    if is_there(path):  # even if the name looks like a pattern
        return [path]
    if not glob.has_magic(argument):
        raise UsageError(f"{argument}: does not exist; name an image file, a folder or a pattern")
    files = (path for path in map(Path, glob.iglob(argument, recursive=True)) if is_file(path))  # noqa: PTH207  # a pattern may be absolute
    matches = sorted(islice(files, MOST_FILES + 1))
    if not matches:
        raise UsageError(f"{argument}: matches no file; correct the pattern")
    return matches


def _images_of(folder: Path) -> list[Path]:
    extensions = readable_extensions()
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = (path for path in visible if path.suffix.lower() in extensions and is_file(path))
    images = sorted(islice(files, MOST_FILES + 1))
    if not images:
        raise UsageError(f"{folder}: holds no image files; for those of subfolders, give '{folder}/**/*.jpg'")
    return images
