"""Converts a checkpoint to artifacts in the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sshconvert.checkpoint import CheckpointFiles
from sshconvert.convert import Artifact, convert, plan
from sshconvert.finite import NonFinite
from sshconvert.libraries import require
from sshconvert.messages import listed
from sshconvert.options import Options
from sshconvert.reading import is_there
from sshtool.checkpoint.archive import opened
from sshtool.progress import Progress, silent
from sshtool.quantization import QuantizationOptions, check, quantization_for, quantization_needs
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class ArtifactResult:
    """An artifact. `bytes` is the size of its files together, 0 with `dry_run`."""

    format: str
    precision: str
    path: Path
    files: tuple[Path, ...]
    bytes: int


@dataclass(frozen=True)
class ConvertResult:
    """The written artifacts, or with `dry_run` the planned ones. `nonfinite` lists weights that are NaN or infinite."""

    model: str
    weights: str
    artifacts: tuple[ArtifactResult, ...]
    nonfinite: tuple[NonFinite, ...] = ()
    notes: tuple[str, ...] = ()


def convert_checkpoint(
    workspace: Workspace,
    options: Options,
    quantization_options: QuantizationOptions = QuantizationOptions(),  # noqa: B008  # it is frozen
    *,
    checkpoint: Path | CheckpointFiles | None = None,
    allow_nonfinite: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> ConvertResult:
    """Convert a checkpoint: a folder, a `.params` file or an archive; by default the downloaded one."""
    if not dry_run:
        require(*quantization_needs(options, quantization_options))
    path = workspace.source(checkpoint)
    notes: list[str] = []
    with opened(path, workspace.model, allow_nonfinite=allow_nonfinite) as loaded:
        if loaded.unused:
            notes.append(f"parameters that no node reads are left out: {listed(loaded.unused, ', ')}")
        check(loaded, options, quantization_options)
        if dry_run:
            artifacts = plan(workspace.model.name, workspace.folder, options)
        else:
            quantization = quantization_for(loaded, options, quantization_options, progress=progress, note=notes.append)
            artifacts = convert(
                loaded, workspace.folder, options, quantization=quantization, release=True, progress=progress
            )
        results = tuple(map(_result, artifacts))
        return ConvertResult(workspace.model.name, loaded.weights, results, loaded.nonfinite, tuple(notes))


def _result(artifact: Artifact) -> ArtifactResult:
    size = sum(path.stat().st_size for path in artifact.files if is_there(path))
    return ArtifactResult(artifact.format, artifact.precision.value, artifact.path, artifact.files, size)
