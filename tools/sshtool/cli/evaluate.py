"""`sshtool evaluate`: average precision on WIDER FACE, by both published protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from sshtool import limits
from sshtool.cli.options import MANY, AllowNonfinite, Artifacts, Computing, Confinement, HtmlPath, Option, Output, Place
from sshtool.cli.parsing import check_counts, choice, one_or_both, shard_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.evaluate.figures import EvaluateResult

MOST_LISTED: Final = 20  # images that were not evaluated; --json has all


@dataclass(frozen=True)
class Evaluate(Verb):
    """Measure average precision on WIDER FACE, by both published protocols. Exit code 1 if an image is unreadable."""

    place: Place = field(default_factory=Place)
    dataset: Annotated[
        Path | None, Option("The folder that WIDER FACE's archives unpack to, or that `demo-dataset` wrote.")
    ] = None
    artifact: Artifacts = ()
    protocol: Annotated[str, Option("omz (Open Model Zoo's), wider (WIDER FACE's own), or both.")] = "omz"
    limit: Annotated[int, Option("Evaluate the first images only; 0: all.", min=0, max=limits.MOST_EVALUATED)] = 0
    shard: Annotated[str, Option("I/N: the I-th of N parts of the images.")] = "1/1"
    resume: Annotated[bool, Option("Continue an interrupted run with the same options.")] = False
    merge: Annotated[tuple[Path, ...], Option(f"Merge the journals of shards: files, or their folders; {MANY}.")] = ()
    predictions: Annotated[Path | None, Option("Score a folder of predictions in WIDER FACE's text format.")] = None
    save_predictions: Annotated[
        Path | None, Option("Write predictions in that format to this folder; several artifacts get a folder each.")
    ] = None
    pyramid: Annotated[bool, Option("Run wider at the four scales of upstream's pyramid.")] = False
    resize: Annotated[
        str,
        Option(
            "Run wider on artifacts of a fixed size, by letterbox or stretch: not comparable with upstream's figures."
        ),
    ] = ""
    html: HtmlPath = None
    computing: Computing = field(default_factory=Computing)
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def session(self, name: str) -> Session:
        return self.output.session(name, interrupted="the evaluated images are kept; continue with --resume")

    def run(self, session: Session) -> None:
        check_counts({"--artifact": self.artifact, "--merge": self.merge})
        self.confinement.apply()
        from sshconvert.libraries import PILLOW
        from sshtool.evaluate.evaluation import EvaluateOptions, evaluate
        from sshtool.evaluate.score import PROTOCOLS
        from sshtool.images import Resize
        from sshtool.report.evaluation import write_evaluation
        from sshtool.report.page import check_page

        options = EvaluateOptions(
            dataset=self.dataset,
            artifacts=self.artifact,
            protocols=one_or_both("--protocol", self.protocol, PROTOCOLS),
            limit=self.limit,
            shard=shard_of(self.shard),
            resume=self.resume,
            merge=self.merge,
            predictions=self.predictions,
            save_predictions=self.save_predictions,
            pyramid=self.pyramid,
            resize=Resize(choice("--resize", self.resize, list(Resize))) if self.resize else None,
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
        )
        check_page(self.html, PILLOW)
        write = partial(write_evaluation, self.html)
        result = evaluate(self.place.workspace(), options, write=write, progress=session.progress)
        session.finish(result, render, passed=not result.not_evaluated, code=1)


def render(result: EvaluateResult, plain: bool) -> RenderableType:
    """Render a table for each protocol, then the remarks."""
    from rich.console import Group

    from sshtool.report.figures import figure_tables, headline, remarks
    from sshtool.report.terminal import lines, table

    parts: list[RenderableType] = [lines(headline(result))]
    for item in figure_tables(result):
        parts += [lines(f"{item.title}, images {item.input}"), table(item.columns, item.rows, plain=plain)]
    parts += [lines(*remarks(result))]
    reasons = [f"not evaluated: {item.reason}" for item in result.not_evaluated[:MOST_LISTED]]
    if len(result.not_evaluated) > MOST_LISTED:
        reasons.append(f"… and {len(result.not_evaluated) - MOST_LISTED} more")
    return Group(*parts, lines(*reasons, *(f"written: {path}" for path in result.written)))
