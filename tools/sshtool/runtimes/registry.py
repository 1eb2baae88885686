"""The registry of runtimes, and the usual runtime of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.formats.base import has_suffix
from sshconvert.formats.registry import FORMATS, main_file
from sshconvert.registry import Registry
from sshtool.runtimes.base import Runtime

RUNTIMES: Final[Registry[type[Runtime]]] = Registry("sshtool.runtimes")


def runtimes_for(precision: str) -> list[str]:
    """Return the keys of the runtimes that can compute in a precision."""
    return [key for key, runtime in RUNTIMES.items() if precision in runtime.inference_precisions]


def usual_runtime(path: Path, key: str = "") -> type[Runtime]:
    """Return the runtime `key`, or the usual one for the file's format. Installed runtimes take precedence.

    Raises UsageError if no runtime loads the file.
    """
    if key and key not in RUNTIMES:
        raise UsageError(f"--runtime: {key} is not one of {', '.join(RUNTIMES)}")
    runtimes = [runtime for runtime in RUNTIMES.values() if key in ("", runtime.key)]
    suitable = [runtime for runtime in runtimes if runtime.loads(path)]
    if not suitable:
        suffixes = sorted({suffix for runtime in runtimes for suffix in runtime.suffixes()})
        raise UsageError(f"{path}: {_refusal(path, runtimes[0].name if key else 'a runtime', suffixes)}")
    available = [runtime for runtime in suitable if runtime.is_available()]
    return min(available or suitable, key=lambda runtime: _place(runtime, path))


def _place(runtime: type[Runtime], path: Path) -> int:
    """Return the place of the file's suffix among those that a runtime loads."""
    return next(place for place, suffix in enumerate(runtime.suffixes()) if has_suffix(path, suffix))


def _refusal(path: Path, name: str, suffixes: list[str]) -> str:
    """Return why the named runtime does not load a file, and which file to give instead."""
    if main := main_file(path):
        return f"cannot be loaded alone: give {main}, which refers to it"
    if path.name.endswith("-symbol.json"):
        return "is a part of a checkpoint: give an artifact that `sshtool convert` made from it"
    return f"is no file that {name} loads; give one that ends in {' or '.join(suffixes)}"


def native_formats() -> tuple[str, ...]:
    """Return the keys of the formats, first those whose usual runtime is installed."""
    installed = {key for runtime in RUNTIMES.values() if runtime.is_available() for key in runtime.formats[:1]}
    return tuple(sorted(FORMATS, key=lambda key: key not in installed))
