"""`sshtool run`: the whole way, from a checkpoint to a package of models that were compared with the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sshtool.cli.options import (
    AllowNonfinite,
    AllowUnverified,
    CheckpointPath,
    Conversion,
    Demo,
    DryRun,
    Fetching,
    FromArchive,
    Output,
    Place,
)
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.pipeline import RunResult


def _both_floats() -> Conversion:
    return Conversion(precision=("FP32,FP16",))


@dataclass(frozen=True)
class Run(Verb):
    """Do it all: get the checkpoint, convert it, verify every artifact against MXNet, and package what passed."""

    place: Place = field(default_factory=Place)
    demo: Demo = False
    from_archive: FromArchive = None
    checkpoint: CheckpointPath = None
    fetching: Fetching = field(default_factory=Fetching)
    allow_unverified: AllowUnverified = False
    conversion: Conversion = field(default_factory=_both_floats)
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.pipeline import run

        source = self.fetching.options(
            demo=self.demo,
            from_archive=self.from_archive,
            allow_unverified=self.allow_unverified,
            allow_nonfinite=self.allow_nonfinite,
            checkpoint=self.checkpoint,
        )
        workspace = self.place.workspace()
        result = run(
            workspace,
            self.conversion.options(workspace.model),
            self.conversion.quantization(),
            checkpoint=self.checkpoint,
            source=source,
            dry_run=self.dry_run,
            progress=session.progress,
            report_transfer=session.transfers(workspace.model.name),
        )
        session.finish(result, render, passed=result.passed)


def render(result: RunResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    from rich.console import Group

    from sshtool.report.comparison import comparison_table
    from sshtool.report.terminal import lines

    made = [f"picture: {result.picture}", f"report: {result.page}", *map(str, result.artifacts)]
    if result.package:
        made.append(f"package: {result.package}")
    elif result.report:
        made.append("no package, because not everything was held to the original and passed")
    paths = lines(*made, *result.notes)
    if result.report is None:
        return Group(lines("nothing was written or compared; this would be:"), paths)
    return Group(comparison_table(result.report, plain=plain), paths)
