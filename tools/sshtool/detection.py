"""Runs a converted detector on image files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from sshconvert.arrays import Pixels
from sshconvert.errors import ImageError, NonfiniteError, UsageError
from sshconvert.libraries import PILLOW, require
from sshconvert.tasks.detection import DetectionTask, detection_task
from sshconvert.tasks.results import Box, Detections, landmarks_of
from sshtool.candidates import usual_artifact
from sshtool.detector import Detector, DetectorOptions, Fitted
from sshtool.images import reading
from sshtool.picture import save_picture
from sshtool.results.base import RESULTS, Meaning
from sshtool.results.crops import MARGIN, save_crop
from sshtool.results.outcomes import Detected, Detection, ImageJob, NotRead, Outcome
from sshtool.selection import select_images
from sshtool.stores import ImageFile
from sshtool.workspace import Workspace

# Bytes of an image that stays in memory for its picture; `detect` reads a larger one again.
MOST_KEPT: Final = 64 << 20


@dataclass(frozen=True)
class Saving:
    """What `detect` saves beside its lines.

    `images` are copies with the boxes, `crops` cut-outs of the detections with the `margin` of
    `sshtool.results.crops`, `results` keys of formats.
    """

    images: bool = False
    crops: bool = False
    margin: float = MARGIN
    results: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectResult:
    """The outcome of each image, or with `dry_run` its job, and the files of all results."""

    model: str
    weights: str
    artifact: Path
    runtime: str
    images: tuple[Outcome, ...]
    saved: tuple[Path, ...] = ()

    @property
    def not_read(self) -> tuple[NotRead, ...]:
        return tuple(item for item in self.images if isinstance(item, NotRead))


def detect(
    workspace: Workspace,
    images: Sequence[str | Path],
    options: DetectorOptions = DetectorOptions(),  # noqa: B008  # frozen
    *,
    artifact: Path | None = None,
    saving: Saving = Saving(),  # frozen
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
        saving: What to save in `workspace.detections`.
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
    for key in saving.results:
        if needed := RESULTS[key].needs:
            require(needed)
    jobs = _jobs(select_images(images), workspace.detections, saving)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    settings = replace(options.settings, throughput=len(jobs) > 1, images=len(jobs))
    detector = Detector(path, model, replace(options, settings=settings))
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        detected = stack.enter_context(closing(detect_each(detector, () if dry_run else jobs, progress=progress)))
        writers = [] if dry_run else [stack.enter_context(file) for file in _opened(workspace, saving, detector.task)]
        for item in jobs if dry_run else detected:
            report(item)
            outcomes.append(item)
            if isinstance(item, Detected):
                for write in writers:
                    write(item)
    saved = tuple(workspace.detections / RESULTS[key].place for key in saving.results if not dry_run)
    weights = detector.runtime.declaration.weights
    return DetectResult(model.name, weights, path, str(detector.runtime), tuple(outcomes), saved)


def _opened(
    workspace: Workspace, saving: Saving, task: DetectionTask
) -> Iterator[AbstractContextManager[Callable[[Detected], None]]]:
    columns = task.columns
    meaning = Meaning(task.labels, task.last_pixel, columns.attributes, columns.points)
    for key in saving.results:
        form = RESULTS[key]
        yield form.opened(workspace.detections / form.place, meaning)


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


def _jobs(images: Sequence[ImageFile], folder: Path, saving: Saving) -> tuple[ImageJob, ...]:
    """A job for each image, with its own name: the image's, with a number if another one has it."""
    jobs = []
    taken: set[str] = set()
    originals = {image.resolve() for image in images} if saving.images else set()
    for image in images:
        name, number = image.stem, 1
        while name.casefold() in taken:  # some file systems ignore case
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name.casefold())
        picture = folder / f"{name}.png" if saving.images else None
        if picture is not None and picture.resolve() in originals:
            raise UsageError(
                f"{picture}: is one of the images, and its picture would overwrite it; use another --output-dir"
            )
        jobs.append(ImageJob(image, name, picture, folder / "crops" if saving.crops else None, saving.margin))
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
            return _Read(detector.fit(image), image if job.is_drawn and image.nbytes <= MOST_KEPT else None)
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))


def _outcome(
    detector: Detector, job: ImageJob, read: _Read, detections: Detections | NonfiniteError
) -> Detected | NotRead:
    if isinstance(detections, NonfiniteError):
        return NotRead(job.image, type(detections).__name__, f"{job.image}: {detections}")
    rows = detections.rows(None)
    attributes = detections.attribute_rows(detector.task.columns.attributes)
    best_first = tuple(map(_detection, rows, attributes, detections.labels(detector.task.labels)))
    placement, precision = read.fitted.placement, detector.runtime.inference_precision
    done = Detected(job.image, placement.width, placement.height, best_first, job.picture, precision, job.name)
    try:
        if not job.is_drawn:
            return done
        if read.original is not None:
            return _drawn(job, done, rows, read.original, detector.task.last_pixel)
        with reading(job.image) as image:
            return _drawn(job, done, rows, image, detector.task.last_pixel)
    except ImageError as error:
        return NotRead(job.image, type(error).__name__, str(error))


def _drawn(job: ImageJob, done: Detected, rows: Sequence[Box], image: Pixels, last_pixel: int) -> Detected:
    """Save the picture and the cut-outs of an image."""
    if job.picture is not None:
        save_picture(job.picture, image, rows)
    if job.crops is None:
        return done
    files = tuple(job.crops / f"{job.name}-{number}.png" for number in range(1, len(done.detections) + 1))
    for file, detection in zip(files, done.detections, strict=True):
        save_crop(file, image, detection, margin=job.margin, last_pixel=last_pixel)
    return replace(done, crops=files)


def _detection(row: Box, attributes: Mapping[str, float], label: str) -> Detection:
    x1, y1, x2, y2, score, *_ = row
    return Detection((x1, y1, x2, y2), score, label, landmarks_of(row), attributes)
