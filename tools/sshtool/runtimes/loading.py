"""Loads a file with its runtime, in the sandbox if there is one."""

from __future__ import annotations

from pathlib import Path

from sshconvert.errors import ArtifactError, UsageError
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file
from sshtool.runtimes.base import Runtime, Settings
from sshtool.runtimes.registry import able_of, usual_runtime
from sshtool.runtimes.sandboxed import SandboxedRuntime
from sshtool.sandbox import confined


def load(path: Path, model: ModelSpec, settings: Settings = Settings(), *, key: str = "") -> Runtime:  # noqa: B008  # frozen
    """Load a file with the runtime of that key, or with the usual one for its format.

    Raises UsageError if there is none or if it cannot compute in the precision, and what `Runtime.load` raises.
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
    return SandboxedRuntime(kind, path, model, settings, limits)
