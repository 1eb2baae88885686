"""`sshtool convert`: artifacts from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType

from sshconvert.convert import Artifact, convert, plan
from sshconvert.finite import NonFinite, summary
from sshconvert.libraries import require
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshconvert.reading import is_there
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import checkpoint_folder
from sshtool.progress import Progress, silent
from sshtool.quantization import QuantizationOptions, check, quantization_for, quantization_needs
from sshtool.report.terminal import lines, table


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
    model_name: str,
    output_dir: Path,
    options: Options,
    wanted: QuantizationOptions = QuantizationOptions(),  # noqa: B008  # it is frozen
    *,
    checkpoint: Path | None = None,
    allow_nonfinite: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> ConvertResult:
    """Convert a checkpoint (a folder, a `.params` file or an archive; by default the downloaded one)."""
    model = load_model(model_name)
    if not dry_run:
        require(*quantization_needs(options, wanted))
    path = checkpoint or checkpoint_folder(output_dir, model)
    notes: list[str] = []
    with opened(path, model, allow_nonfinite=allow_nonfinite) as loaded:
        check(loaded, options, wanted)
        if dry_run:
            artifacts = plan(model.name, output_dir, options)
        else:
            quantization = quantization_for(loaded, options, wanted, progress=progress, note=notes.append)
            artifacts = convert(loaded, output_dir, options, quantization=quantization, release=True, progress=progress)
        measured = tuple(_measure(artifact) for artifact in artifacts)
        return ConvertResult(model.name, loaded.weights, measured, loaded.nonfinite, tuple(notes))


def _measure(artifact: Artifact) -> ArtifactResult:
    size = sum(path.stat().st_size for path in artifact.files if is_there(path))
    return ArtifactResult(artifact.format.value, artifact.precision.value, artifact.path, artifact.files, size)


def render(result: ConvertResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    rows = [[item.path, item.format, item.precision, f"{item.bytes / 1e6:.1f}"] for item in result.artifacts]
    title = f"{result.model}, weights {result.weights}"
    made = table(["path", "format", "precision", ">MB"], rows, title=title, plain=plain)
    said = [summary(result.nonfinite)] if result.nonfinite else []
    return Group(made, *map(lines, [*said, *result.notes]))
