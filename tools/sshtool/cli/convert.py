"""`sshtool convert`: artifacts from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sshtool.cli.options import AllowNonfinite, CheckpointPath, Conversion, DryRun, Network, Output
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.conversion import ConvertResult


@dataclass(frozen=True)
class Convert(Verb):
    """Convert a checkpoint to ONNX and OpenVINO IR."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    conversion: Conversion = field(default_factory=Conversion)
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.conversion import convert_checkpoint

        workspace, checkpoint = self.place.open(self.checkpoint)
        result = convert_checkpoint(
            workspace,
            self.conversion.options(workspace.model),
            self.conversion.quantization(),
            checkpoint=checkpoint,
            allow_nonfinite=self.allow_nonfinite,
            dry_run=self.dry_run,
            progress=session.progress,
        )
        session.finish(result, render)


def render(result: ConvertResult, plain: bool) -> RenderableType:
    """Render a row for each artifact, then the notes."""
    from rich.console import Group

    from sshconvert.finite import summary
    from sshtool.report.terminal import lines, table

    rows = [[item.path, item.format, item.precision, f"{item.bytes / 1e6:.1f}"] for item in result.artifacts]
    title = f"{result.model}, weights {result.weights}"
    artifacts = table(["path", "format", "precision", ">MB"], rows, title=title, plain=plain)
    nonfinite = [summary(result.nonfinite)] if result.nonfinite else []
    return Group(artifacts, *map(lines, [*nonfinite, *result.notes]))
