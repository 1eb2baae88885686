"""`sshtool reference`: store the exact answers in a reference pack."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sshtool.cli.options import (
    AllowNonfinite,
    CheckpointPath,
    DryRun,
    InputShape,
    Network,
    Option,
    Output,
    Scenes,
    Threads,
    settings_of,
)
from sshtool.cli.parsing import shape_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.parity.recording import ReferenceResult


@dataclass(frozen=True)
class Reference(Verb):
    """Store the exact answers in one file, for `verify --reference` without the checkpoint."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    file: Annotated[Path | None, Option("Path of the pack; by default beside the artifacts.")] = None
    input_shape: InputShape = ""
    scenes: Scenes = 2
    threads: Threads = 0
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.parity.recording import make_reference

        workspace, checkpoint = self.place.open(self.checkpoint)
        result = make_reference(
            workspace,
            path=self.file,
            checkpoint=checkpoint,
            input_shape=shape_of(self.input_shape),
            scenes=self.scenes,
            settings=settings_of("CPU", self.threads, allow_nonfinite=self.allow_nonfinite),
            dry_run=self.dry_run,
            progress=session.progress,
        )
        session.finish(result, render)


def render(result: ReferenceResult, plain: bool) -> RenderableType:
    """Render the pack as a table of one row."""
    from sshtool.report.terminal import table

    row = [str(result.path), f"{result.bytes / 1e6:.2f}", result.source, result.weights, str(len(result.samples))]
    return table(["reference pack", ">MB", "answers of", "weights", ">samples"], [row], plain=plain)
