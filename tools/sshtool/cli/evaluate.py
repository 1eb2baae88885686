"""`sshtool evaluate`: the published measure of the model's task, on the published data set or a drawn one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from sshtool import limits
from sshtool.cli.options import MANY, AllowNonfinite, Artifacts, Computing, Confinement, HtmlPath, Option, Output, Place
from sshtool.cli.parsing import check_counts, choice, one_or_both, shard_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.evaluate.figures import EvaluateResult, NotEvaluated
    from sshtool.evaluate.recognition import RecognitionResult
    from sshtool.workspace import Workspace

# Options that make no sense for embedders and classifiers.
_OF_DETECTORS: Final = frozenset(
    {
        "protocol",
        "shard",
        "images",
        "resume",
        "merge",
        "predictions",
        "save_predictions",
        "pyramid",
        "resize",
        "html",
    }
)

PARTS: Final = "Work in parts"  # a panel of the help

MOST_LISTED: Final = 20  # images that were not evaluated; --json has all


@dataclass(frozen=True)
class Evaluate(Verb):
    """Measure detectors on WIDER FACE by both published protocols, embedders on LFW's pairs, classifiers on ImageNet.

    Exit code 1 if an image is unreadable.
    """

    place: Place = field(default_factory=Place)
    dataset: Annotated[
        Path | None,
        Option(
            "Folder of WIDER FACE's unpacked archives, of ImageNet's images and val.txt, or of `demo-dataset`; or "
            "InsightFace's lfw.bin.",
            short="-d",
        ),
    ] = None
    artifact: Artifacts = ()
    protocol: Annotated[
        str, Option("omz is Open Model Zoo's, wider WIDER FACE's own.", choices=("omz", "wider", "both"))
    ] = "omz"
    limit: Annotated[int, Option("Evaluate the first images only; 0: all.", min=0, max=limits.MOST_EVALUATED)] = 0
    shard: Annotated[str, Option("I/N: the I-th of N parts of the images.", panel=PARTS)] = "1/1"
    scheduler: Annotated[
        str,
        Option(
            "Evaluate on the workers of a Dask cluster: the scheduler's address, or the JSON file that it wrote.",
            panel=PARTS,
            rare=True,
        ),
    ] = ""
    images: Annotated[
        str,
        Option("The images' folder or URL, as the workers find it; by default in the dataset.", panel=PARTS, rare=True),
    ] = ""
    resume: Annotated[bool, Option("Continue an interrupted run with the same options.", panel=PARTS)] = False
    merge: Annotated[
        tuple[Path, ...], Option(f"Merge the journals of shards: files, or their folders; {MANY}.", panel=PARTS)
    ] = ()
    predictions: Annotated[
        Path | None, Option("Score a folder of predictions in WIDER FACE's text format.", rare=True)
    ] = None
    save_predictions: Annotated[
        Path | None,
        Option("Write predictions in that format to this folder; several artifacts get a folder each.", rare=True),
    ] = None
    pyramid: Annotated[bool, Option("Run wider at the four scales of upstream's pyramid.", rare=True)] = False
    resize: Annotated[
        str,
        Option(
            "Run wider on artifacts of a fixed size; not comparable with upstream's figures.",
            choices=("letterbox", "stretch"),
            rare=True,
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
        from sshconvert.tasks.detection import DetectionTask

        workspace = self.place.workspace()
        if isinstance(workspace.model.task, DetectionTask):
            self._evaluate_detector(workspace, session)
        else:
            self._evaluate_recognition(workspace, session)

    def _evaluate_recognition(self, workspace: Workspace, session: Session) -> None:
        from sshconvert.errors import UsageError
        from sshtool.evaluate.recognition import RecognitionOptions, evaluate_recognition
        from sshtool.predictor import predicting_task

        predicting_task(workspace.model.name, workspace.model.task)
        others = {item.name: item.default for item in fields(self) if item.name in _OF_DETECTORS}
        given = [f"--{name.replace('_', '-')}" for name, default in others.items() if getattr(self, name) != default]
        if given:
            raise UsageError(
                f"{', '.join(given)}: for detectors only, and {workspace.model.name} is none; leave it out"
            )
        options = RecognitionOptions(
            dataset=self.dataset,
            artifacts=self.artifact,
            limit=self.limit,
            scheduler=self.scheduler,
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
        )
        result = evaluate_recognition(workspace, options, progress=session.progress)
        session.finish(result, render_recognition, passed=not result.not_evaluated, code=1)

    def _evaluate_detector(self, workspace: Workspace, session: Session) -> None:
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
            images=self.images,
            scheduler=self.scheduler,
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
        )
        check_page(self.html, PILLOW)
        write = partial(write_evaluation, self.html)
        result = evaluate(workspace, options, write=write, progress=session.progress)
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
    return Group(*parts, lines(*_reasons(result.not_evaluated), *(f"written: {path}" for path in result.written)))


def render_recognition(result: RecognitionResult, plain: bool) -> RenderableType:
    """Render a row for each artifact, the published figures, then the notes."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    names = [measure.name for measure in result.artifacts[0].measures]
    head = ["artifact", *(text for name in names for text in (f">{name} %", ">vs FP32")), ">images/s"]
    rows = [
        [
            item.artifact,
            *(text for one in item.measures for text in (f"{100 * one.share:.3f}", _change(one.change))),
            f"{item.images_per_second:.1f}",
        ]
        for item in result.artifacts
    ]
    published = [f"{100 * result.published[name]:.3f}" if name in result.published else "" for name in names]
    if any(published):
        rows.append(["published", *(text for one in published for text in (one, "")), ""])
    counted = f"{result.images} images" if result.pairs is None else f"{result.pairs} pairs"
    headline = f"{result.model}: {result.protocol}, {counted} of {result.dataset}, {result.input}"
    notes = (f"note: {note}" for note in result.notes)
    return Group(lines(headline), table(head, rows, plain=plain), lines(*notes, *_reasons(result.not_evaluated)))


def _change(change: float | None) -> str:
    return "" if change is None else f"{100 * change:+.3f}"


def _reasons(images: Sequence[NotEvaluated]) -> list[str]:
    reasons = [f"not evaluated: {item.reason}" for item in images[:MOST_LISTED]]
    if len(images) > MOST_LISTED:
        reasons.append(f"… and {len(images) - MOST_LISTED} more")
    return reasons
