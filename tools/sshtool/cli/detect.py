"""`sshtool detect`: run a converted detector on image files, videos and cameras."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

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
    from sshtool.detection_run import DetectionRun
    from sshtool.results.outcomes import Outcome, VideoDetected


SAVING: Final = "Files of results"  # panels of the help
VIDEOS: Final = "Videos"
MANY_IMAGES: Final = "Many images"
RESULT_FORMATS: Final = ("jsonl", "csv", "coco", "yolo", "wider", "parquet")


@dataclass(frozen=True)
class Detect(Verb):
    """Run a converted detector on images and videos. It reports unreadable ones and continues with the others."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders (their images, no subfolders), videos, patterns such as 'photos/**/*.jpg', URLs such "
            f"as s3://bucket/photos, at most {limits.MOST_FILES}; or camera:0.",
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
    every: Annotated[
        int,
        Option(
            "Take each N-th frame of a video, from its first on.",
            min=1,
            max=limits.MOST_FRAMES,
            panel=VIDEOS,
            rare=True,
        ),
    ] = 1
    frames: Annotated[
        int,
        Option(
            "Take at most N frames of a video or camera; 0: all, of a camera until Ctrl-C.",
            min=0,
            max=limits.MOST_FRAMES,
            panel=VIDEOS,
            rare=True,
        ),
    ] = 0
    scheduler: Annotated[
        str,
        Option(
            "Detect on the workers of a Dask cluster: the scheduler's address, or the JSON file that it wrote.",
            panel=MANY_IMAGES,
            rare=True,
        ),
    ] = ""
    resume: Annotated[
        bool,
        Option("Keep a journal, and go on after an interrupted run of the same options.", panel=MANY_IMAGES, rare=True),
    ] = False
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    confinement: Confinement = field(default_factory=Confinement)
    output: LineOutput = field(default_factory=LineOutput)

    @property
    def _has_journal(self) -> bool:
        return bool(self.scheduler or self.resume)

    def session(self, name: str) -> Session:
        if not self._has_journal:
            return self.output.session(name, lines=True)
        return self.output.session(name, lines=True, interrupted="the outcomes so far are kept; continue with --resume")

    def run(self, session: Session) -> None:
        self.confinement.apply()
        from sshconvert.errors import UsageError
        from sshtool.detection import Saving, detect
        from sshtool.detection_run import run_detection
        from sshtool.detector import DetectorOptions
        from sshtool.frame_detection import Sampling
        from sshtool.images import Resize
        from sshtool.results.base import RESULTS
        from sshtool.results.outcomes import as_json

        options = DetectorOptions(
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
            threshold=self.threshold,
            resize=Resize(choice("--resize", self.resize, list(Resize))),
        )
        saving = Saving(
            self.save_images,
            self.save_crops,
            self.crop_margin,
            tuple(choices("--save-results", self.save_results, list(RESULTS))) if self.save_results else (),
        )
        if self._has_journal and self.dry_run:
            raise UsageError("--dry-run lists the images of a usual run; leave out --scheduler and --resume")
        common: dict[str, Any] = {
            "artifact": self.artifact,
            "saving": saving,
            "report": lambda item: session.emit(as_json(item)),
            "progress": session.progress,
        }
        where = self.place.open()[0], self.images, options
        result: DetectResult | DetectionRun
        if self._has_journal:
            result = run_detection(*where, **common, scheduler=self.scheduler, resume=self.resume)
        else:
            result = detect(*where, **common, sampling=Sampling(self.every, self.frames), dry_run=self.dry_run)
        if not self.output.json:
            session.finish(result, render_run if self._has_journal else render)
        if result.not_read:
            raise typer.Exit(1)


def render_run(result: DetectionRun, plain: bool) -> RenderableType:  # noqa: ARG001  # no table is in it
    """Render the counts, then the first errors, then the files."""
    from rich.console import Group

    from sshtool.report.terminal import lines

    counts = [f"{result.images} images", f"{result.detections} found"]
    counts += [f"{result.unreadable} not read"] if result.unreadable else []
    counts += [f"{result.resumed} from an earlier run"] if result.resumed else []
    parts = [f"{result.model}, weights {result.weights}, {result.runtime}: {', '.join(counts)}"]
    parts += [f"{result.rate:.3g} images/s"] if result.images > result.resumed else []
    if result.cluster is not None:
        cluster = result.cluster
        parts.append(
            f"cluster: at most {cluster.workers} workers, {cluster.partitions} partitions, {cluster.repeated} of them "
            f"computed again, {cluster.restarts} restarts of the scheduler"
        )
    parts += [item.message for item in result.not_read]
    if result.unreadable > len(result.not_read):
        parts.append(f"… and {result.unreadable - len(result.not_read)} more")
    return Group(lines(*parts, f"journal: {result.journal}", *(f"results: {path}" for path in result.saved)))


def render(result: DetectResult, plain: bool) -> RenderableType:
    """Render a row for each image and video, then the errors of the unreadable ones."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table
    from sshtool.results.outcomes import NotRead

    shown = [item for item in result.images if not (isinstance(item, NotRead) and item.frame is not None)]
    rows = [[item.image, *_cells(item)] for item in shown]
    images = table(["image", ">size", ">found", ">best score", "picture"], rows, plain=plain)
    headline = f"{result.model}, weights {result.weights}, {result.runtime}: {_summary(result)}"
    saved = (f"results: {path}" for path in result.saved)
    return Group(lines(headline), images, lines(*(item.message for item in result.not_read), *saved))


def _summary(result: DetectResult) -> str:
    from sshtool.results.outcomes import Detected, ImageJob, VideoDetected
    from sshtool.video.naming import has_frames

    videos = [item for item in result.images if isinstance(item, VideoDetected)]
    of_videos = {item.image for item in result.images if has_frames(item.image)}
    listed = sum(item.frame is not None for item in result.not_read)
    counts = {
        "images": sum(item.image not in of_videos for item in result.images),
        "videos": len(of_videos),
        "frames": sum(video.frames for video in videos),
        "found": sum(len(item.detections) for item in result.images if isinstance(item, Detected))
        + sum(video.detections for video in videos),
        "not read": len(result.not_read) - listed + sum(video.not_read for video in videos),
        "not done": sum(isinstance(item, ImageJob) for item in result.images),
    }
    always = ("found",) if of_videos else ("images", "found")
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in always)


def _cells(item: Outcome | VideoDetected) -> list[str]:
    from sshconvert.reading import is_there
    from sshtool.results.outcomes import ImageJob, NotRead, VideoDetected

    if isinstance(item, NotRead) or (isinstance(item, VideoDetected) and not item.frames):
        return ["not read", "", "", ""]
    # The video with the boxes is not there if its frames changed their size.
    is_drawn = item.picture is not None and (not isinstance(item, VideoDetected) or is_there(item.picture))
    picture = item.picture.name if item.picture is not None and is_drawn else ""
    if isinstance(item, ImageJob):
        return ["to do", "", "", picture]
    if isinstance(item, VideoDetected):
        found = f"{item.detections} in {item.frames} frames"
        return [f"{item.width}x{item.height}", found, f"{item.best:.2f}" if item.detections else "", picture]
    best = f"{item.detections[0].score:.2f}" if item.detections else ""
    return [f"{item.width}x{item.height}", str(len(item.detections)), best, picture]
