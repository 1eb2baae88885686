"""`sshtool convert`: artifacts from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from sshconvert.convert import Artifact, Options, convert, plan
from sshconvert.models import load_model
from sshtool.checkpoint.archive import opened
from sshtool.commands.download import checkpoint_folder
from sshtool.report.terminal import table


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
    """What was written (or, with `dry_run`, would be)."""

    model: str
    weights: str
    artifacts: tuple[ArtifactResult, ...]


def convert_checkpoint(
    model_name: str,
    output_dir: Path,
    options: Options,
    *,
    checkpoint: Path | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ConvertResult:
    """Convert a checkpoint (a folder, a `.params` file or an archive; by default the downloaded one)."""
    model = load_model(model_name)
    with opened(checkpoint or checkpoint_folder(output_dir, model), model) as loaded:
        if dry_run:
            artifacts = plan(model.name, output_dir, options)
        else:
            artifacts = convert(loaded, output_dir, options, progress=progress)
        return ConvertResult(model.name, loaded.weights, tuple(_measure(artifact) for artifact in artifacts))


def _measure(artifact: Artifact) -> ArtifactResult:
    size = sum(path.stat().st_size for path in artifact.files if path.exists())
    return ArtifactResult(artifact.format.value, artifact.precision.value, artifact.path, artifact.files, size)


def render(result: ConvertResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    rows = [[item.format, item.precision, f"{item.bytes / 1e6:.1f}", str(item.path)] for item in result.artifacts]
    title = f"{result.model}, weights {result.weights}"
    return table(["format", "precision", ">MB", "path"], rows, title=title, plain=plain)
