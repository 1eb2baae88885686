"""The registry of formats, and the format of a file by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.errors import ArtifactError
from sshconvert.formats.base import Format, has_suffix
from sshconvert.registry import Registry

FORMATS: Final[Registry[type[Format]]] = Registry("sshconvert.formats")


def known_format(path: Path) -> type[Format] | None:
    """Return the format whose main files have the suffix of `path`."""
    return next((entry for entry in FORMATS.values() if has_suffix(path, entry.suffix)), None)


def format_of(path: Path) -> type[Format]:
    """Return the format of an artifact. Raises ArtifactError for another file."""
    entry = known_format(path)
    if entry is None:
        raise ArtifactError(f"{path}: is no artifact; give a file that ends in {suffixes()}")
    return entry


def format_key(path: Path) -> str:
    """Return the key of the file's format; for any other file its suffix, without the dot."""
    entry = known_format(path)
    return entry.key if entry else path.suffix.lstrip(".").lower()


def main_file(path: Path) -> Path | None:
    """Return the main file to which `path` has the name of a companion, in any format."""
    return next(filter(None, (entry.main_of(path) for entry in FORMATS.values())), None)


def artifact_files(path: Path) -> tuple[Path, ...]:
    """Return all files of the artifact whose main file is `path`."""
    entry = known_format(path)
    return (path, *(entry.companions(path) if entry else ()))


def suffixes() -> str:
    """Return the suffixes of all formats, for a message."""
    return " or ".join(entry.suffix for entry in FORMATS.values())
