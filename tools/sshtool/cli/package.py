"""`sshtool package`: verified artifacts as a folder, or one file, that a stranger can check and deploy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sshtool.cli.options import Artifacts, DryRun, Option, Output, Place, ReferencePath
from sshtool.cli.parsing import check_few
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.package.build import PackageResult


@dataclass(frozen=True)
class Package(Verb):
    """Put verified artifacts into a folder, or one file, that a stranger can check and deploy."""

    place: Place = field(default_factory=Place)
    artifact: Artifacts = ()
    verification: Annotated[
        Path | None, Option("What `verify --json` printed; by default what it left beside the artifacts.")
    ] = None
    evaluation: Annotated[Path | None, Option("What `evaluate --json` printed, for the model card.")] = None
    bench: Annotated[Path | None, Option("What `bench --json` printed, for the model card.")] = None
    reference: ReferencePath = None
    layout: Annotated[str, Option("flat, huggingface, ovms or triton.")] = "flat"
    archive: Annotated[str, Option("One file too: zip or tar.gz.")] = ""
    allow_unverified: Annotated[bool, Option("Package what has not passed `verify`, and mark it so.")] = False
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        check_few({"--artifact": self.artifact})
        from sshtool.package.build import PackageOptions, package

        options = PackageOptions(
            self.artifact,
            self.verification,
            self.evaluation,
            self.bench,
            self.reference,
            self.layout.lower(),
            self.archive.lower(),
            self.allow_unverified,
        )
        result = package(self.place.workspace(), options, dry_run=self.dry_run, progress=session.progress)
        session.finish(result, render)


def render(result: PackageResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    from rich.console import Group

    from sshtool.package.manifest import SUMS
    from sshtool.report.terminal import lines, table

    rows = [[file.path, file.role.value, f"{file.bytes / 1e6:.2f}", file.sha256[:12]] for file in result.files]
    status = "verified" if result.verified else "NOT verified"
    listed = table(["file", "what it is", ">MB", "SHA-256"], rows, title=f"{result.model}, {status}", plain=plain)
    where = [f"package: {result.folder}", *([f"archive: {result.archive}"] if result.archive else [])]
    stands = [f"SHA-256 of {SUMS}: {result.sha256}"] if result.sha256 else ["nothing was written"]
    if not result.with_reference:
        stands.append(
            "There is no reference pack of this checkpoint and size, by which others hold the models to the original; "
            '`sshtool reference` makes it where MXNet is installed. Without it, `sshtool check` ends with "not proven".'
        )
    return Group(*([listed] if rows else []), lines(*where, *stands))
