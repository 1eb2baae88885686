"""`sshtool detect`: run a converted detector on image files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sshtool import limits
from sshtool.cli.options import (
    AllowNonfinite,
    Computing,
    Confinement,
    DryRun,
    LineOutput,
    Network,
    OneArtifact,
    Option,
)
from sshtool.cli.parsing import choice, choices
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.detection import DetectResult
    from sshtool.results.outcomes import Outcome


SAVING: Final = "Files of results"  # a panel of the help
RESULT_FORMATS: Final = ("jsonl", "csv", "coco", "yolo", "wider", "parquet")


@dataclass(frozen=True)
class Detect(Verb):
    """Run a converted detector on images. It reports unreadable images and continues with the others."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders (without their subfolders) and patterns such as 'photos/**/*.jpg'; "
            f"at most {limits.MOST_FILES}.",
            show_default=False,
        ),
    ]
    place: Network = field(default_factory=Network)
    artifact: OneArtifact = None
    computing: Computing = field(default_factory=Computing)
    threshold: Annotated[
        float | None,
        Option("The least score; by default 0.5, or the model's own if that is higher.", short="-t", min=0, max=1),
    ] = None
    resize: Annotated[
        str,
        Option("letterbox pads the image, stretch deforms it.", choices=("letterbox", "stretch")),
    ] = "letterbox"
    save_images: Annotated[bool, Option("Draw the boxes on copies in <output-dir>/<model>/detections.")] = False
    save_crops: Annotated[
        bool,
        Option(
            "Cut out each detection, into the subfolder crops: with five landmarks an aligned face of 112x112 pixels, "
            "otherwise the box with --crop-margin.",
            panel=SAVING,
            rare=True,
        ),
    ] = False
    crop_margin: Annotated[
        float,
        Option(
            "The share of the box's longer side that is added on each side.",
            min=0,
            max=limits.MOST_MARGIN,
            panel=SAVING,
            rare=True,
        ),
    ] = 0.2
    save_results: Annotated[
        list[str],
        Option("Also write all detections; several with commas.", choices=RESULT_FORMATS, panel=SAVING, rare=True),
    ] = field(default_factory=list)
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    confinement: Confinement = field(default_factory=Confinement)
    output: LineOutput = field(default_factory=LineOutput)

    def session(self, name: str) -> Session:
        return self.output.session(name, lines=True)

    def run(self, session: Session) -> None:
        self.confinement.apply()
        from sshtool.detection import Saving, detect
        from sshtool.detector import DetectorOptions
        from sshtool.images import Resize
        from sshtool.results.base import RESULTS
        from sshtool.results.outcomes import as_json

        options = DetectorOptions(
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
            threshold=self.threshold,
            resize=Resize(choice("--resize", self.resize, list(Resize))),
        )
        result = detect(
            self.place.open()[0],
            self.images,
            options,
            artifact=self.artifact,
            saving=Saving(
                self.save_images,
                self.save_crops,
                self.crop_margin,
                tuple(choices("--save-results", self.save_results, list(RESULTS))) if self.save_results else (),
            ),
            dry_run=self.dry_run,
            report=lambda item: session.emit(as_json(item)),
            progress=session.progress,
        )
        if not self.output.json:
            session.finish(result, render)
        if result.not_read:
            raise typer.Exit(1)


def render(result: DetectResult, plain: bool) -> RenderableType:
    """Render a row for each image, then the errors of the unreadable ones."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    rows = [[item.image, *_cells(item)] for item in result.images]
    images = table(["image", ">size", ">found", ">best score", "picture"], rows, plain=plain)
    headline = f"{result.model}, weights {result.weights}, {result.runtime}: {_summary(result)}"
    saved = (f"results: {path}" for path in result.saved)
    return Group(lines(headline), images, lines(*(item.message for item in result.not_read), *saved))


def _summary(result: DetectResult) -> str:
    from sshtool.results.outcomes import Detected, ImageJob

    detections = sum(len(item.detections) for item in result.images if isinstance(item, Detected))
    planned = sum(isinstance(item, ImageJob) for item in result.images)
    counts = {"images": len(result.images), "found": detections, "not read": len(result.not_read), "not done": planned}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("images", "found"))


def _cells(item: Outcome) -> list[str]:
    from sshtool.results.outcomes import ImageJob, NotRead

    if isinstance(item, NotRead):
        return ["not read", "", "", ""]
    picture = item.picture.name if item.picture is not None else ""
    if isinstance(item, ImageJob):
        return ["to do", "", "", picture]
    best = f"{item.detections[0].score:.2f}" if item.detections else ""
    return [f"{item.width}x{item.height}", str(len(item.detections)), best, picture]
