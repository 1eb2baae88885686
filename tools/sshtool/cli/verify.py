"""`sshtool verify`: whether artifacts compute what the original computes, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sshtool import limits
from sshtool.cli.options import (
    AllowNonfinite,
    Artifacts,
    CheckpointPath,
    Computing,
    Confinement,
    HtmlPath,
    Option,
    Output,
    Place,
    ReferencePath,
    Scenes,
)
from sshtool.cli.parsing import check_few
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.parity.layers import Divergence
    from sshtool.parity.verification import VerifyResult


@dataclass(frozen=True)
class Verify(Verb):
    """Say, with evidence, whether artifacts compute the same detector as the original. Exit code 3 if one does not."""

    place: Place = field(default_factory=Place)
    checkpoint: CheckpointPath = None
    artifact: Artifacts = ()
    reference: ReferencePath = None
    images: Annotated[
        tuple[str, ...], Option(f"Your own images too: a file, folder or pattern; at most {limits.MOST_VERIFIED}.")
    ] = ()
    scenes: Scenes = 2
    profile: Annotated[str, Option("Hold all to the tolerances of FP32, FP16, BF16 or INT8, whatever they are.")] = ""
    atol: Annotated[tuple[str, ...], Option("Absolute tolerance: for all outputs, and for some: 1e-5 NAME:1e-4 …")] = ()
    rtol: Annotated[tuple[str, ...], Option("Tolerance relative to the expected value, written likewise.")] = ()
    computing: Computing = field(default_factory=Computing)
    layers: Annotated[bool, Option("Where an output is off, name the first layer that differs.")] = False
    self_test: Annotated[bool, Option("Plant faults in copies of the artifacts, and require that each is caught.")] = (
        False
    )
    html: HtmlPath = None
    junit: Annotated[Path | None, Option("Write the report as JUnit XML, for CI.")] = None
    markdown: Annotated[Path | None, Option("Write the report as Markdown, for the summary of a job.")] = None
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        check_few({"--artifact": self.artifact, "--atol": self.atol, "--rtol": self.rtol})
        self.confinement.apply()
        from sshconvert.tasks.tolerances import Overrides, parse_limits
        from sshtool.parity.verification import VerifyOptions, verify_artifacts
        from sshtool.parity.verify import Rules
        from sshtool.report.verification import ReportFiles

        workspace = self.place.workspace()
        outputs = workspace.model.output_names
        overrides = Overrides(parse_limits("--atol", self.atol, outputs), parse_limits("--rtol", self.rtol, outputs))
        options = VerifyOptions(
            artifacts=self.artifact,
            checkpoint=self.checkpoint,
            reference=self.reference,
            images=self.images,
            scenes=self.scenes,
            profile=self.profile.upper(),
            runtime=self.computing.runtime,
            layers=self.layers,
            self_test=self.self_test,
            rules=Rules(overrides, self.computing.settings(allow_nonfinite=self.allow_nonfinite)),
        )
        files = ReportFiles(self.html, self.junit, self.markdown)
        files.check()
        result = verify_artifacts(workspace, options, write=files.write, progress=session.progress)
        session.finish(result, render, passed=result.passed)


def render(result: VerifyResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    from rich.console import Group

    from sshtool.report.comparison import comparison_table, self_test_table
    from sshtool.report.terminal import lines

    parts = [comparison_table(result.report, plain=plain)]
    if result.divergences:
        parts.append(lines(*map(_where, result.divergences)))
    if result.self_test:
        parts.append(self_test_table(result.self_test, plain=plain))
    if result.written:
        parts.append(lines(*(f"report: {path}" for path in result.written)))
    return Group(*parts)


def _where(divergence: Divergence) -> str:
    place = f"{divergence.artifact} on {divergence.sample}"
    if not divergence.layer:
        return f"{place}: all {divergence.compared} tensors inside agree to {divergence.limit:g} of their range"
    before = f"; {divergence.before}, before it, agrees" if divergence.before else ""
    return (
        f"{place}: {divergence.layer} is the first to differ, by {divergence.relative:.2g} of its range "
        f"({divergence.limit:g} allowed){before}"
    )
