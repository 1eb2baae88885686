"""The registry of formats, and the format of a file by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.errors import ArtifactError
from sshconvert.formats.base import Format
from sshconvert.registry import Registry

FORMATS: Final[Registry[type[Format]]] = Registry("sshconvert.formats")


def known_format(path: Path) -> type[Format] | None:
    """The format whose main files end as `path` does."""
    return next((kind for kind in FORMATS.values() if kind.suffix == path.suffix.lower()), None)


def format_of(path: Path) -> type[Format]:
    """The format of an artifact. Raises ArtifactError if there is none."""
    kind = known_format(path)
    if kind is None:
        raise ArtifactError(f"{path}: is no artifact; give a file that ends in {suffixes()}")
    return kind


def format_key(path: Path) -> str:
    """The key of the file's format; for any other file its suffix, without the dot."""
    kind = known_format(path)
    return kind.key if kind else path.suffix.lstrip(".").lower()


def main_file(path: Path) -> Path | None:
    """The main file of the artifact that `path` is named as a companion of."""
    return next(filter(None, (kind.main_of(path) for kind in FORMATS.values())), None)


def artifact_files(path: Path) -> tuple[Path, ...]:
    """All files that belong to the artifact whose main file is `path`."""
    kind = known_format(path)
    return (path, *(kind.companions(path) if kind else ()))


def suffixes() -> str:
    """The suffixes of all formats, for a message."""
    return " or ".join(kind.suffix for kind in FORMATS.values())
