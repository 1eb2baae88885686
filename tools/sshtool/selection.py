"""Which image files are meant by what was given: files, folders and patterns."""

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
    """Image files in the order given, each once, by whatever names.

    A file is taken whatever its extension. Of a folder, the files with an image's extension are taken, sorted, without
    hidden ones and without those of folders inside. A pattern (`*`, `?`, `[…]`, and `**` for folders at any depth)
    takes the files that it matches, sorted, as a shell's would.

    Raises UsageError if an argument leads to no file, and RuntimeUnavailableError without Pillow.
    """
    named: dict[Path, Path] = {}
    for path in (path for argument in arguments for path in _expand(str(argument))):
        named.setdefault(path.resolve(), path)
        if len(named) > MOST_FILES:
            raise UsageError(f"{one_line(arguments[0])}: more than {MOST_FILES} images are meant; name fewer")
    return tuple(named.values())


def _expand(argument: str) -> list[Path]:
    try:
        return _found(argument)
    except OSError as error:
        raise UsageError(f"{argument}: cannot be looked up ({error.strerror}); change its permissions") from None
    except ValueError as error:  # a zero byte
        raise UsageError(f"{argument!r}: cannot be looked up ({error}); correct the name") from None


def _found(argument: str) -> list[Path]:
    path = Path(argument)
    if is_folder(path):
        return _images_of(path)
    if is_there(path):  # also where the name looks like a pattern
        return [path]
    if not glob.has_magic(argument):
        raise UsageError(f"{argument}: is not there; name an image file, a folder or a pattern")
    files = (path for path in map(Path, glob.iglob(argument, recursive=True)) if is_file(path))  # noqa: PTH207  # a pattern may be absolute
    matches = sorted(islice(files, MOST_FILES + 1))
    if not matches:
        raise UsageError(f"{argument}: matches no file; correct the pattern")
    return matches


def _images_of(folder: Path) -> list[Path]:
    extensions = readable_extensions()
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = (path for path in shown if path.suffix.lower() in extensions and is_file(path))
    images = sorted(islice(files, MOST_FILES + 1))
    if not images:
        raise UsageError(f"{folder}: holds no image files; for those of folders inside, give '{folder}/**/*.jpg'")
    return images
