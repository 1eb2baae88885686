"""Runs a converted detector on image files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.arrays import Pixels
from sshconvert.errors import ImageError, NonfiniteError, UsageError
from sshconvert.libraries import PILLOW, require
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.results import Box, Detections, landmarks_of
from sshtool.candidates import usual_artifact
from sshtool.detector import Detector, DetectorOptions, Fitted
from sshtool.document import Error
from sshtool.images import reading
from sshtool.picture import save_picture
from sshtool.selection import select_images
from sshtool.workspace import Workspace

# Bytes of an image that stays in memory for its picture; `detect` reads a larger one again.
MOST_KEPT: Final = 64 << 20
# Decimal places in JSON: the precision of float32.
BOX_DIGITS: Final = 3
SCORE_DIGITS: Final = 6


@dataclass(frozen=True)
class ImageJob:
    """An image to detect in, and the path of the picture to draw, if any."""

    image: Path
    picture: Path | None = None


@dataclass(frozen=True)
class Detection:
    """A box (x1, y1, x2, y2 in pixels of the upright image) and its score. Anchors' boxes include their corner pixels.

    `label` is the class, "" if the task has one class. `landmarks` are points (x, y) in the same pixels, `attributes`
    values 0-1 by name, if the task has any.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str = ""
    landmarks: tuple[tuple[float, float], ...] = ()
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Detected:
    """The detections in an image, best first. `width` and `height` are those of the upright image.

    `inference_precision` is the type that the runtime reports to have computed in.
    """

    image: Path
    width: int
    height: int
    detections: tuple[Detection, ...]
    picture: Path | None
    inference_precision: str


@dataclass(frozen=True)
class NotRead:
    """An image that is unreadable, or whose outputs are not finite, and the error."""

    image: Path
    error: str  # the name of the exception
    message: str


class DetectionLine(TypedDict):
    """A detection in a line of JSON."""

    box: tuple[float, float, float, float]
    score: float
    label: NotRequired[str]
    landmarks: NotRequired[list[tuple[float, float]]]
    attributes: NotRequired[dict[str, float]]


class PlannedLine(TypedDict):
    """The JSON line of an image with --dry-run."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's setting, not a key

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    picture: NotRequired[str]


class DetectedLine(PlannedLine):
    """The JSON line of an image with detections."""

    width: int
    height: int
    inference_precision: str
    detections: list[DetectionLine]


class NotReadLine(TypedDict):
    """The JSON line of an image with an error."""

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    error: Error


Line: TypeAlias = DetectedLine | NotReadLine | PlannedLine

Outcome = ImageJob | Detected | NotRead


@dataclass(frozen=True)
class DetectResult:
    """The outcome of each image, or with `dry_run` its job."""

    model: str
    weights: str
    artifact: Path
    runtime: str
    images: tuple[Outcome, ...]

    @property
    def not_read(self) -> tuple[NotRead, ...]:
        return tuple(item for item in self.images if isinstance(item, NotRead))


def detect(
    workspace: Workspace,
    images: Sequence[str | Path],
    options: DetectorOptions = DetectorOptions(),  # noqa: B008  # frozen
    *,
    artifact: Path | None = None,
    save_images: bool = False,
    dry_run: bool = False,
    report: Callable[[Outcome], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> DetectResult:
    """Detect in images.

    Args:
        workspace: The model and the output folder.
        images: Files, folders and patterns.
        options: The runtime, the threshold and the resizing.
        artifact: The converted model; by default the usual one of the workspace.
        save_images: Draw the boxes on copies of the images in `workspace.detections`.
        dry_run: Load the model, and list the jobs only.
        report: Receives each outcome as soon as it is known. An unreadable image is an outcome too.
        progress: Receives each step.

    Raises:
        UsageError: Before the first image, for options or images that make no sense.
        SSHToolError: What loading and running the artifact and writing the pictures raise.

    """
    model = workspace.model
    require(PILLOW)
    detection_task(model.name, model.task).for_display(options.threshold)
    jobs = _jobs(select_images(images), workspace.detections if save_images else None)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    settings = replace(options.settings, throughput=len(jobs) > 1, images=len(jobs))
    detector = Detector(path, model, replace(options, settings=settings))
    outcomes: list[Outcome] = []
    with closing(detect_each(detector, () if dry_run else jobs, progress=progress)) as detected:
        for item in jobs if dry_run else detected:
            report(item)
            outcomes.append(item)
    weights = detector.runtime.declaration.weights
    return DetectResult(model.name, weights, path, str(detector.runtime), tuple(outcomes))


def detect_each(
    detector: Detector, jobs: Sequence[ImageJob], *, progress: Callable[[str], None] = lambda _: None
) -> Generator[Detected | NotRead, None, None]:
    """Yield the outcome of each image, in order. Threads read images while the runtime computes others.

    Closing the generator ends its threads.
    """
    groups = [jobs[start : start + detector.shared.batch] for start in range(0, len(jobs), detector.shared.batch)]
    numbers = count(1)
    with closing(detector.shared.each(partial(_detect_group, detector), groups)) as results:
        for group in groups:
            for job in group:
                progress(f"{next(numbers)} of {len(jobs)}: {job.image}")
            yield from next(results)


def as_json(item: Outcome) -> dict[str, Any]:
    """The body of the JSON line of an image."""
    body: dict[str, Any] = {"image": item.image}
    if isinstance(item, NotRead):
        return body | {"error": {"type": item.error, "message": item.message}}
    if isinstance(item, Detected):
        body |= {"width": item.width, "height": item.height, "inference_precision": item.inference_precision}
        body |= {"detections": [_rounded(detection) for detection in item.detections]}
    return body if item.picture is None else body | {"picture": item.picture}


def _rounded(detection: Detection) -> dict[str, Any]:
    line: dict[str, Any] = {
        "box": [round(value, BOX_DIGITS) for value in detection.box],
        "score": round(detection.score, SCORE_DIGITS),
    }
    if detection.label:
        line["label"] = detection.label
    if detection.landmarks:
        line["landmarks"] = [[round(value, BOX_DIGITS) for value in point] for point in detection.landmarks]
    if detection.attributes:
        line["attributes"] = {name: round(value, SCORE_DIGITS) for name, value in detection.attributes.items()}
    return line


def _jobs(images: Sequence[Path], folder: Path | None) -> tuple[ImageJob, ...]:
    """A job for each image. With a folder, each has a picture named after the image, with a number if it is taken."""
    if folder is None:
        return tuple(ImageJob(image) for image in images)
    jobs = []
    taken: set[str] = set()
    originals = {image.resolve() for image in images}
    for image in images:
        name, number = image.stem, 1
        while name.casefold() in taken:  # some file systems ignore case
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name.casefold())
        picture = folder / f"{name}.png"
        if picture.resolve() in originals:
            raise UsageError(
                f"{picture}: is one of the images, and its picture would overwrite it; use another --output-dir"
            )
        jobs.append(ImageJob(image, picture))
    return tuple(jobs)


@dataclass(frozen=True)
class _Read:
    """An image in the network's size, and the original if a picture needs it and it is at most MOST_KEPT."""

    fitted: Fitted
    original: Pixels | None


def _detect_group(detector: Detector, jobs: Sequence[ImageJob]) -> list[Detected | NotRead]:
    read = [_read(detector, job) for job in jobs]
    detections = iter(detector.find_in_fitted([item.fitted for item in read if isinstance(item, _Read)]))
    return [
        item if isinstance(item, NotRead) else _outcome(detector, job, item, next(detections))
        for job, item in zip(jobs, read, strict=True)
    ]


def _read(detector: Detector, job: ImageJob) -> _Read | NotRead:
    try:
        with reading(job.image) as image:
            return _Read(detector.fit(image), image if job.picture is not None and image.nbytes <= MOST_KEPT else None)
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))


def _outcome(
    detector: Detector, job: ImageJob, read: _Read, detections: Detections | NonfiniteError
) -> Detected | NotRead:
    if isinstance(detections, NonfiniteError):
        return NotRead(job.image, type(detections).__name__, f"{job.image}: {detections}")
    rows = detections.rows(None)
    try:
        if job.picture is not None and read.original is not None:
            save_picture(job.picture, read.original, rows)
        elif job.picture is not None:
            with reading(job.image) as image:
                save_picture(job.picture, image, rows)
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))
    attributes = detections.attribute_rows(detector.task.columns.attributes)
    best_first = tuple(map(_detection, rows, attributes, detections.labels(detector.task.labels)))
    placement, precision = read.fitted.placement, detector.runtime.inference_precision
    return Detected(job.image, placement.width, placement.height, best_first, job.picture, precision)


def _detection(row: Box, attributes: Mapping[str, float], label: str) -> Detection:
    x1, y1, x2, y2, score, *_ = row
    return Detection((x1, y1, x2, y2), score, label, landmarks_of(row), attributes)
