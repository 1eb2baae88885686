"""The registry of runtimes, and the usual runtime of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.formats.registry import FORMATS, main_file
from sshconvert.registry import Registry
from sshtool.runtimes.base import Runtime

RUNTIMES: Final[Registry[type[Runtime]]] = Registry("sshtool.runtimes")


def able_of(precision: str) -> list[str]:
    """The keys of the runtimes that can compute in a precision."""
    return [key for key, kind in RUNTIMES.items() if precision in kind.inference_precisions]


def usual_runtime(path: Path, key: str = "") -> type[Runtime]:
    """The runtime of that key, or the usual one for the file's format. Installed runtimes take precedence.

    Raises UsageError if no runtime loads the file.
    """
    if key and key not in RUNTIMES:
        raise UsageError(f"--runtime: {key} is not one of {', '.join(RUNTIMES)}")
    able = [kind for kind in RUNTIMES.values() if kind.loads(path) and key in ("", kind.key)]
    if not able:
        raise UsageError(f"{path}: {_why_not(path, key)}")
    return min(
        [kind for kind in able if kind.is_here()] or able, key=lambda kind: kind.suffixes().index(path.suffix.lower())
    )


def _why_not(path: Path, key: str) -> str:
    """Why no runtime, or not the one of that key, loads a file, and which file to give instead."""
    if main := main_file(path):
        return f"cannot be loaded alone: give {main}, which refers to it"
    if path.name.endswith("-symbol.json"):
        return "is a part of a checkpoint: give what `sshtool convert` made of it"
    kinds = [kind for kind in RUNTIMES.values() if key in ("", kind.key)]
    loadable = " or ".join(sorted({item for kind in kinds for item in kind.suffixes()}))
    name = kinds[0].name if key else "a runtime"
    return f"is no file that {name} loads; give one that ends in {loadable}"


def native_formats() -> tuple[str, ...]:
    """The keys of the formats, first those whose usual runtime is installed."""
    installed = {key for kind in RUNTIMES.values() if kind.is_here() for key in kind.formats[:1]}
    return tuple(sorted(FORMATS, key=lambda key: key not in installed))
