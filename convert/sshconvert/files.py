"""Writing files so that a reader, or a crash, never sees a part of one."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sshconvert.errors import OutputError


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write to; rename it over `target` when the block ends well.

    The rename replaces an old file in one step, so `target` is absent, old or new, never a part. On any
    exception the staged file is removed and `target` is left as it was.

    Raises OutputError if the folder or the file cannot be written.
    """
    with _output_errors(target), _temporary_folder(target.parent) as folder:
        path = folder / target.name
        yield path
        path.replace(target)


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Give a new hidden folder inside `parent` (made if need be); remove it, with what is left in it, at the end.

    Raises OutputError if it cannot be made, or if what the block writes cannot be written.
    """
    with _output_errors(parent), _temporary_folder(parent) as folder:
        yield folder


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sshtool-", dir=parent) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _output_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); free space, change its permissions "
            "or name another folder"
        ) from error
