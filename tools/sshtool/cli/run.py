"""`sshtool run`: every step from a checkpoint to a package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

from sshtool.cli.options import (
    AllowNonfinite,
    CheckpointPath,
    Conversion,
    DryRun,
    Fetching,
    Network,
    Option,
    Output,
)
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.pipeline import RunResult


def _fp32_and_fp16() -> Conversion:
    return Conversion(precision=("FP32,FP16",))


_NO_PACKAGE: Final = "no package: an artifact failed"


@dataclass(frozen=True)
class Run(Verb):
    """Get the checkpoint, convert it, verify every artifact against the original, and package those that pass."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    fetching: Fetching = field(default_factory=Fetching)
    conversion: Conversion = field(default_factory=_fp32_and_fp16)
    allow_nonfinite: AllowNonfinite = False
    live: Annotated[
        bool, Option("Compare with MXNet itself also where sshtool ships its answers, as for the demo.", rare=True)
    ] = False
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.pipeline import run

        source = self.fetching.options(allow_nonfinite=self.allow_nonfinite, checkpoint=self.checkpoint)
        workspace, checkpoint = self.place.open(self.checkpoint)
        result = run(
            workspace,
            self.conversion.options(workspace.model),
            self.conversion.quantization(),
            checkpoint=checkpoint,
            source=source,
            live=self.live,
            dry_run=self.dry_run,
            progress=session.progress,
            report_transfer=session.transfers(workspace.model.name),
        )
        session.finish(result, render, passed=result.passed)


def render(result: RunResult, plain: bool) -> RenderableType:
    """Render the comparison, then the paths of the files."""
    from rich.console import Group

    from sshtool.report.comparison import comparison_table
    from sshtool.report.terminal import lines

    pictures = [f"picture: {result.picture}"] if result.picture else []
    paths = [*pictures, f"report: {result.page}", *map(str, result.artifacts)]
    if result.report is None:
        return Group(lines("nothing was written or compared; these would be the files:", *paths))
    paths.append(f"package: {result.package}" if result.package else _NO_PACKAGE)
    return Group(comparison_table(result.report, plain=plain), lines(*paths, *result.notes))
