"""`sshtool evaluate`: average precision on WIDER FACE, by both of the ways in which figures were published."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from sshtool import limits
from sshtool.cli.options import MANY, AllowNonfinite, Artifacts, Computing, Confinement, HtmlPath, Option, Output, Place
from sshtool.cli.parsing import check_few, choice, either, shard_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.evaluate.figures import EvaluateResult

# Images that were not evaluated are listed up to here; --json has them all.
MOST_LISTED: Final = 20


@dataclass(frozen=True)
class Evaluate(Verb):
    """Measure average precision on WIDER FACE, by both published ways. Exit code 1 if an image could not be read."""

    place: Place = field(default_factory=Place)
    dataset: Annotated[
        Path | None, Option("The folder of WIDER FACE, as its archives unpack, or of `demo-dataset`.")
    ] = None
    artifact: Artifacts = ()
    protocol: Annotated[str, Option("omz is Open Model Zoo's measure, wider WIDER FACE's own; or both.")] = "omz"
    limit: Annotated[int, Option("Only so many images, the first; 0 is all.", min=0, max=limits.MOST_EVALUATED)] = 0
    shard: Annotated[str, Option("I/N: of N parts of the images, the I-th.")] = "1/1"
    resume: Annotated[bool, Option("Go on where a run with these options was interrupted.")] = False
    merge: Annotated[
        tuple[Path, ...], Option(f"Put journals of shards together: files, or folders that hold them; {MANY}.")
    ] = ()
    predictions: Annotated[
        Path | None, Option("Score a folder of predictions in WIDER FACE's text format, anybody's.")
    ] = None
    save_predictions: Annotated[
        Path | None, Option("Write predictions there in that format; with several artifacts, a folder for each.")
    ] = None
    pyramid: Annotated[bool, Option("wider at the four scales of upstream's pyramid.")] = False
    resize: Annotated[
        str, Option("wider on artifacts of one size, by letterbox or stretch: not what upstream's figures are of.")
    ] = ""
    html: HtmlPath = None
    computing: Computing = field(default_factory=Computing)
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def session(self, name: str) -> Session:
        return self.output.session(name, interrupted="what was evaluated is kept, and --resume goes on from there")

    def run(self, session: Session) -> None:
        check_few({"--artifact": self.artifact, "--merge": self.merge})
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
            protocols=either("--protocol", self.protocol, PROTOCOLS),
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
    """The result as text: a table for each protocol, then what to know about it."""
    from rich.console import Group

    from sshtool.report.figures import figure_tables, headline, remarks
    from sshtool.report.terminal import lines, table

    parts: list[RenderableType] = [lines(headline(result))]
    for item in figure_tables(result):
        parts += [lines(f"{item.title}, images {item.input}"), table(item.columns, item.rows, plain=plain)]
    parts += [lines(*remarks(result))]
    listed = result.not_evaluated[:MOST_LISTED]
    said = [f"not evaluated: {item.reason}" for item in listed]
    if len(result.not_evaluated) > len(listed):
        said.append(f"… and {len(result.not_evaluated) - len(listed)} more")
    return Group(*parts, lines(*said, *(f"written: {path}" for path in result.written)))
