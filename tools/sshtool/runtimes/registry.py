"""The registry of runtimes, and the runtime that loads a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.errors import ArtifactError, UsageError
from sshconvert.formats.registry import FORMATS, main_file
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file
from sshconvert.registry import Registry
from sshtool.runtimes.base import Runtime, Settings
from sshtool.sandbox import confined

RUNTIMES: Final[Registry[type[Runtime]]] = Registry("sshtool.runtimes")


def load(path: Path, model: ModelSpec, settings: Settings = Settings(), *, key: str = "") -> Runtime:  # noqa: B008  # frozen
    """Load a file with the runtime of that key, or with the usual one for its suffix.

    Raises UsageError if there is none or it cannot be asked for that precision, and what `Runtime.load` raises.
    """
    kind = usual_runtime(path, key)
    wanted = settings.inference_precision
    if wanted not in kind.inference_precisions:
        raise UsageError(
            f"--inference-precision: {path} is for {kind.name}, which cannot be asked for {wanted}; leave it out, or "
            f"load a file with --runtime {' or '.join(able_of(wanted))}"
        )
    if not is_file(path):
        raise ArtifactError(f"{path}: is not there; `sshtool convert` makes it")
    limits = confined()
    if limits is None or not kind.reads_strangers:
        return kind.load(path, model, settings)
    from sshtool.sandbox.runtimes import load as load_in_sandbox

    return load_in_sandbox(kind, path, model, settings, limits)


def able_of(precision: str) -> list[str]:
    """The keys of the runtimes that can be asked for that precision."""
    return [key for key, kind in RUNTIMES.items() if precision in kind.inference_precisions]


def usual_runtime(path: Path, key: str = "") -> type[Runtime]:
    """The runtime of that key, or the usual one for the file's suffix, of those that are installed if one of them loads
    it. Raises UsageError if there is none.
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
    """Why a file is none that the runtime of that key loads, or any at all, and what to give instead."""
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
