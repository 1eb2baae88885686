"""`sshtool download`: put a checkpoint into the output folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from sshtool.cli.options import OUTPUT, AllowNonfinite, DryRun, Fetching, Option, Output, Place
from sshtool.cli.parsing import choice
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.checkpoint.download import DownloadResult
    from sshtool.cli.session import Session


@dataclass(frozen=True)
class Download(Verb):
    """Get a checkpoint: download its archive, unpack an archive that you have, or make the demo."""

    place: Place = field(default_factory=Place)
    fetching: Fetching = field(default_factory=Fetching)
    allow_nonfinite: AllowNonfinite = False
    progress_format: Annotated[
        str,
        Option(
            "json: Open Model Zoo's events on stdout, one a line.", choices=("text", "json"), panel=OUTPUT, rare=True
        ),
    ] = "text"
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def session(self, name: str) -> Session:
        return self.output.session(name, events=self.progress_format == "json")

    def run(self, session: Session) -> None:
        from sshtool.checkpoint.download import download

        choice("--progress-format", self.progress_format, ["text", "json"])
        options = self.fetching.options(allow_nonfinite=self.allow_nonfinite)
        workspace = self.place.workspace()
        result = download(
            workspace,
            options,
            dry_run=self.dry_run,
            progress=session.progress,
            report=session.transfers(workspace.model.name),
        )
        session.finish(result, render)


def render(result: DownloadResult, plain: bool) -> RenderableType:  # noqa: ARG001  # the signature of all verbs
    """Render the origin of the checkpoint and its files."""
    from sshtool.report.terminal import lines

    note = "" if result.verified else " (not the archive that upstream published)"
    source = f"from {result.source}" + (" (cached)" if result.cached else "")
    return lines(f"{result.model}: weights {result.weights}{note}", source, *result.files)
