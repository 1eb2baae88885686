"""`sshtool verify`: compare artifacts with the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from sshtool import limits
from sshtool.cli.options import (
    OUTPUT,
    AllowNonfinite,
    Artifacts,
    CheckpointPath,
    Computing,
    Confinement,
    HtmlPath,
    Network,
    Option,
    Output,
    Scenes,
)
from sshtool.cli.parsing import check_counts
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.parity.layers import Divergence
    from sshtool.parity.verification import VerifyResult


COMPARING: Final = "Tolerances"  # a panel of the help
PROFILES: Final = ("FP32", "FP16", "BF16", "INT8")


@dataclass(frozen=True)
class Verify(Verb):
    """Compare artifacts with the original, and show the evidence. Exit code 3 if one differs."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    artifact: Artifacts = ()
    reference: Annotated[Path | None, Option("A reference pack that replaces MXNet.")] = None
    against: Annotated[
        str,
        Option(
            "exact needs no MXNet; by default both where MXNet is installed.",
            choices=("exact", "mxnet", "both"),
        ),
    ] = ""
    images: Annotated[
        tuple[str, ...],
        Option(f"Your own images too: files, folders, patterns; at most {limits.MOST_VERIFIED}."),
    ] = ()
    scenes: Scenes = 2
    seed: Annotated[
        int | None,
        Option("Compare on samples too that are drawn with this seed.", min=0, max=limits.MOST_SEED, rare=True),
    ] = None
    profile: Annotated[
        str,
        Option(
            "Apply the tolerances of this precision to all artifacts.", choices=PROFILES, panel=COMPARING, rare=True
        ),
    ] = ""
    atol: Annotated[
        tuple[str, ...],
        Option("Absolute tolerance for all outputs, or for one: 1e-5 NAME:1e-4 …", panel=COMPARING, rare=True),
    ] = ()
    rtol: Annotated[
        tuple[str, ...],
        Option("Tolerance relative to the expected value: 1e-5 NAME:1e-4 …", panel=COMPARING, rare=True),
    ] = ()
    computing: Computing = field(default_factory=Computing)
    layers: Annotated[bool, Option("If an output differs, name the first layer that does.")] = False
    self_test: Annotated[bool, Option("Plant faults in copies of the artifacts; each must be caught.", rare=True)] = (
        False
    )
    html: HtmlPath = None
    junit: Annotated[Path | None, Option("Write the report as JUnit XML, for CI.", panel=OUTPUT)] = None
    markdown: Annotated[Path | None, Option("Write the report as Markdown, for a job's summary.", panel=OUTPUT)] = None
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        check_counts({"--artifact": self.artifact, "--atol": self.atol, "--rtol": self.rtol})
        self.confinement.apply()
        from sshconvert.tasks.tolerances import Overrides, parse_limits
        from sshtool.parity.verification import VerifyOptions, verify_artifacts
        from sshtool.parity.verify import Rules
        from sshtool.report.verification import ReportFiles

        workspace, checkpoint = self.place.open(self.checkpoint)
        outputs = workspace.model.output_names
        overrides = Overrides(parse_limits("--atol", self.atol, outputs), parse_limits("--rtol", self.rtol, outputs))
        options = VerifyOptions(
            artifacts=self.artifact,
            checkpoint=checkpoint,
            reference=self.reference,
            against=self.against.lower(),
            images=self.images,
            scenes=self.scenes,
            seed=self.seed,
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
    """Render the comparison, the layers that differ and the self-test."""
    from rich.console import Group

    from sshtool.report.comparison import comparison_table, self_test_table
    from sshtool.report.terminal import lines

    parts = [comparison_table(result.report, plain=plain)]
    if result.divergences:
        parts.append(lines(*map(_divergence, result.divergences)))
    if result.self_test:
        parts.append(self_test_table(result.self_test, plain=plain))
    if result.written:
        parts.append(lines(*(f"report: {path}" for path in result.written)))
    return Group(*parts)


def _divergence(divergence: Divergence) -> str:
    place = f"{divergence.artifact} on {divergence.sample}"
    if not divergence.layer:
        return f"{place}: all {divergence.compared} inner tensors agree to {divergence.limit:g} of their range"
    before = f"; the layer before it, {divergence.before}, agrees" if divergence.before else ""
    return (
        f"{place}: {divergence.layer} is the first layer that differs, by {divergence.relative:.2g} of its range "
        f"({divergence.limit:g} allowed){before}"
    )
