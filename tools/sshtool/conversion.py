"""Converts a checkpoint into artifacts of the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sshconvert.convert import Artifact, convert, plan
from sshconvert.finite import NonFinite
from sshconvert.libraries import require
from sshconvert.options import Options
from sshconvert.reading import is_there
from sshtool.checkpoint.archive import opened
from sshtool.progress import Progress, silent
from sshtool.quantization import QuantizationOptions, check, quantization_for, quantization_needs
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class ArtifactResult:
    """One converted model and the sizes of its files, in bytes (0 if only planned)."""

    format: str
    precision: str
    path: Path
    files: tuple[Path, ...]
    bytes: int


@dataclass(frozen=True)
class ConvertResult:
    """What was written (or, with `dry_run`, would be). `nonfinite` are the weights that are NaN or infinite, `notes`
    what else to know about the artifacts.
    """

    model: str
    weights: str
    artifacts: tuple[ArtifactResult, ...]
    nonfinite: tuple[NonFinite, ...] = ()
    notes: tuple[str, ...] = ()


def convert_checkpoint(
    workspace: Workspace,
    options: Options,
    wanted: QuantizationOptions = QuantizationOptions(),  # noqa: B008  # it is frozen
    *,
    checkpoint: Path | None = None,
    allow_nonfinite: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> ConvertResult:
    """Convert a checkpoint (a folder, a `.params` file or an archive; by default the downloaded one)."""
    if not dry_run:
        require(*quantization_needs(options, wanted))
    path = checkpoint or workspace.checkpoint
    notes: list[str] = []
    with opened(path, workspace.model, allow_nonfinite=allow_nonfinite) as loaded:
        check(loaded, options, wanted)
        if dry_run:
            artifacts = plan(workspace.model.name, workspace.folder, options)
        else:
            quantization = quantization_for(loaded, options, wanted, progress=progress, note=notes.append)
            artifacts = convert(
                loaded, workspace.folder, options, quantization=quantization, release=True, progress=progress
            )
        measured = tuple(_measure(artifact) for artifact in artifacts)
        return ConvertResult(workspace.model.name, loaded.weights, measured, loaded.nonfinite, tuple(notes))


def _measure(artifact: Artifact) -> ArtifactResult:
    size = sum(path.stat().st_size for path in artifact.files if is_there(path))
    return ArtifactResult(artifact.format, artifact.precision.value, artifact.path, artifact.files, size)
