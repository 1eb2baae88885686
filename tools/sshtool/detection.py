"""Detects in image files with a converted model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
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
from sshconvert.tasks.results import Detections
from sshtool.candidates import usual_artifact
from sshtool.detector import Detector, DetectorOptions, Fitted
from sshtool.document import Error
from sshtool.images import reading
from sshtool.report.picture import save_picture
from sshtool.selection import select_images
from sshtool.workspace import Workspace

# Of JSON. Single precision, in which all this is computed, does not hold more.
# Bytes of an image that waits for its picture; a larger one is read again.
MOST_KEPT: Final = 64 << 20
BOX_DIGITS: Final = 3
SCORE_DIGITS: Final = 6


@dataclass(frozen=True)
class ImageJob:
    """An image that is to be done, and the picture to be made of it, if one was asked for."""

    image: Path
    picture: Path | None = None


@dataclass(frozen=True)
class Detection:
    """A detection: x1, y1, x2, y2 in pixels of the upright image, corner pixels included, and its score."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Detected:
    """What was found in an image, best first. `width` and `height` are those of the upright image.

    `inference_precision` is what the runtime says that it computed in.
    """

    image: Path
    width: int
    height: int
    detections: tuple[Detection, ...]
    picture: Path | None
    inference_precision: str


@dataclass(frozen=True)
class NotRead:
    """An image that could not be read, or of which the model made no numbers, and why."""

    image: Path
    error: str  # the name of the exception
    message: str


class DetectionLine(TypedDict):
    """A detection as a line of JSON has it."""

    box: tuple[float, float, float, float]
    score: float


class PlannedLine(TypedDict):
    """The line of an image with --dry-run."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's way; no key

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    picture: NotRequired[str]


class FoundLine(PlannedLine):
    """The line of an image that was read."""

    width: int
    height: int
    inference_precision: str
    detections: list[DetectionLine]


class NotReadLine(TypedDict):
    """The line of an image that could not be read."""

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    error: Error


Line: TypeAlias = FoundLine | NotReadLine | PlannedLine

Outcome = ImageJob | Detected | NotRead


@dataclass(frozen=True)
class DetectResult:
    """What was done with each image (or, with `dry_run`, would be)."""

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
    """Detect in images: files, folders and patterns. `report` is told of each image as soon as it is done.

    Without `artifact`, the one that `convert` wrote. `save_images` writes pictures to the detections folder
    of the workspace. An image that cannot be read is an outcome like another. Raises UsageError before anything
    is done, and what loading and running the artifact and writing the pictures raise.
    """
    model = workspace.model
    require(PILLOW)
    detection_task(model.name, model.task).for_display(options.threshold)
    jobs = _jobs(select_images(images), workspace.detections if save_images else None)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    settings = replace(options.settings, throughput=len(jobs) > 1, images=len(jobs))
    detector = Detector(path, model, replace(options, settings=settings))
    done: list[Outcome] = []
    with closing(detect_each(detector, () if dry_run else jobs, progress=progress)) as found:
        for item in jobs if dry_run else found:
            report(item)
            done.append(item)
    weights = detector.runtime.declaration.weights
    return DetectResult(model.name, weights, path, str(detector.runtime), tuple(done))


def detect_each(
    detector: Detector, jobs: Sequence[ImageJob], *, progress: Callable[[str], None] = lambda _: None
) -> Generator[Detected | NotRead, None, None]:
    """Each image, in their order. Some are read while others are computed, and no more of them than that are in memory.

    Close the generator to have its threads end.
    """
    groups = [jobs[start : start + detector.shared.batch] for start in range(0, len(jobs), detector.shared.batch)]
    numbers = count(1)
    with closing(detector.shared.each(partial(_detect_group, detector), groups)) as results:
        for group in groups:
            for job in group:
                progress(f"{next(numbers)} of {len(jobs)}: {job.image}")
            yield from next(results)


def as_json(item: Outcome) -> dict[str, Any]:
    """One image as the body of a JSON line."""
    body: dict[str, Any] = {"image": item.image}
    if isinstance(item, NotRead):
        return body | {"error": {"type": item.error, "message": item.message}}
    if isinstance(item, Detected):
        body |= {"width": item.width, "height": item.height, "inference_precision": item.inference_precision}
        body |= {"detections": [_rounded(detection) for detection in item.detections]}
    return body if item.picture is None else body | {"picture": item.picture}


def _rounded(detection: Detection) -> dict[str, Any]:
    return {
        "box": [round(value, BOX_DIGITS) for value in detection.box],
        "score": round(detection.score, SCORE_DIGITS),
    }


def _jobs(images: Sequence[Path], folder: Path | None) -> tuple[ImageJob, ...]:
    """With a folder, a picture for each image, named after it, and numbered where another has that name already."""
    if folder is None:
        return tuple(ImageJob(image) for image in images)
    jobs = []
    taken: set[str] = set()
    originals = {image.resolve() for image in images}
    for image in images:
        name, number = image.stem, 1
        while name.casefold() in taken:  # some file systems do not tell upper from lower case
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name.casefold())
        picture = folder / f"{name}.png"
        if picture.resolve() in originals:
            raise UsageError(
                f"{picture}: is itself one of the images and would be overwritten; use another --output-dir"
            )
        jobs.append(ImageJob(image, picture))
    return tuple(jobs)


@dataclass(frozen=True)
class _Read:
    """An image as the network sees it. As it was read, it is kept for a picture only, and if it is no large photo."""

    fitted: Fitted
    original: Pixels | None


def _detect_group(detector: Detector, jobs: Sequence[ImageJob]) -> list[Detected | NotRead]:
    precision = detector.runtime.inference_precision
    read = [_read(detector, job) for job in jobs]
    found = iter(detector.find_in_fitted([item.fitted for item in read if isinstance(item, _Read)]))
    return [
        item if isinstance(item, NotRead) else _outcome(job, item, next(found), precision)
        for job, item in zip(jobs, read, strict=True)
    ]


def _read(detector: Detector, job: ImageJob) -> _Read | NotRead:
    try:
        with reading(job.image) as image:
            return _Read(detector.fit(image), image if job.picture is not None and image.nbytes <= MOST_KEPT else None)
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))


def _outcome(
    job: ImageJob, read: _Read, found: Detections | NonfiniteError, inference_precision: str
) -> Detected | NotRead:
    if isinstance(found, NonfiniteError):
        return NotRead(job.image, type(found).__name__, f"{job.image}: {found}")
    return _detected(job, read, found, inference_precision)


def _detected(job: ImageJob, read: _Read, found: Detections, inference_precision: str) -> Detected | NotRead:
    try:
        if job.picture is not None and read.original is not None:
            save_picture(job.picture, read.original, found.rows(None))
        elif job.picture is not None:
            with reading(job.image) as image:
                save_picture(job.picture, image, found.rows(None))
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))
    detections = tuple(Detection((x1, y1, x2, y2), score) for x1, y1, x2, y2, score in found.rows(None))
    lies = read.fitted.placement
    return Detected(job.image, lies.width, lies.height, detections, job.picture, inference_precision)
