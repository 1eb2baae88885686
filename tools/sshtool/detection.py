"""Runs a converted detector on image files, videos and cameras."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from sshconvert.arrays import Pixels
from sshconvert.errors import ImageError, NonfiniteError, UsageError
from sshconvert.libraries import AV, PILLOW, require
from sshconvert.tasks.detection import DetectionTask, detection_task
from sshconvert.tasks.results import Box, Detections
from sshtool.candidates import usual_artifact
from sshtool.detector import Detector, DetectorOptions, Fitted
from sshtool.frame_detection import Sampling, detect_frames
from sshtool.images import reading
from sshtool.interruption import ended_by_signal
from sshtool.meter import Meter
from sshtool.picture import save_picture
from sshtool.progress import Progress, silent
from sshtool.results.base import RESULTS, Meaning
from sshtool.results.crops import MARGIN, save_crops
from sshtool.results.outcomes import Detected, ImageJob, NotRead, Outcome, VideoDetected, listed
from sshtool.selection import select_images
from sshtool.stores import ImageFile
from sshtool.video.naming import device_of, has_frames, is_camera
from sshtool.workspace import Workspace

# Bytes of an image that stays in memory for its picture; `detect` reads a larger one again.
MOST_KEPT: Final = 64 << 20
# Frames of a video that cannot be read, whose messages the result keeps.
MOST_MESSAGES: Final = 20


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
    """The outcome of each image or video, or with `dry_run` its job, and the files of all results.

    Of a video, the first frames that could not be read are listed too.
    """

    model: str
    weights: str
    artifact: Path
    runtime: str
    images: tuple[Outcome | VideoDetected, ...]
    saved: tuple[Path, ...] = ()

    @property
    def not_read(self) -> tuple[NotRead, ...]:
        return tuple(item for item in self.images if isinstance(item, NotRead))


@dataclass
class _Outcomes:
    """The outcomes for `DetectResult`, with one for all frames of a video."""

    items: list[Outcome | VideoDetected] = field(default_factory=list)
    _place: int | None = None  # of the last video among the items

    def add(self, item: Outcome) -> None:
        if isinstance(item, ImageJob) or item.frame is None:
            self.items.append(item)
            return
        if self._place is None or self.items[self._place].image != item.image:
            self._place = len(self.items)
            self.items.append(VideoDetected(item.image))
        video = self.items[self._place]
        assert isinstance(video, VideoDetected)
        self.items[self._place] = video.and_frame(item)
        if isinstance(item, NotRead) and video.not_read < MOST_MESSAGES:
            self.items.append(item)


def detect(
    workspace: Workspace,
    images: Sequence[str | Path],
    options: DetectorOptions = DetectorOptions(),  # noqa: B008  # frozen
    *,
    artifact: Path | None = None,
    saving: Saving = Saving(),  # frozen
    sampling: Sampling = Sampling(),  # noqa: B008  # frozen
    dry_run: bool = False,
    report: Callable[[Outcome], None] = lambda _: None,
    progress: Progress = silent,
) -> DetectResult:
    """Detect in images and videos.

    A signal ends a camera's frames, and then the results are complete.

    Args:
        workspace: The model and the output folder.
        images: Files, folders and patterns, or one camera.
        options: The runtime, the threshold and the resizing.
        artifact: The converted model; by default the usual one of the workspace.
        saving: What to save in `workspace.detections`.
        sampling: Which frames of a video or camera count.
        dry_run: Load the model, and list the jobs only.
        report: Receives each outcome as soon as it is known: that of an image, unreadable or not, or of a frame.
        progress: Receives each step.

    Raises:
        UsageError: Before the first image, for options or images that make no sense.
        RuntimeUnavailableError: A library for videos or results is missing.
        SSHToolError: What loading and running the artifact and writing the pictures raise.

    """
    model = workspace.model
    require(PILLOW)
    detection_task(model.name, model.task).for_display(options.threshold)
    require_formats(saving)
    jobs = jobs_of(_selected(images), workspace.detections, saving)
    has_videos = any(has_frames(job.image) for job in jobs)
    if has_videos:
        require(AV)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    settings = replace(options.settings, throughput=len(jobs) > 1 or has_videos, images=0 if has_videos else len(jobs))
    detector = Detector(path, model, replace(options, settings=settings))
    outcomes = _Outcomes()
    with ExitStack() as stack:
        if any(is_camera(job.image) for job in jobs):
            sampling = replace(sampling, end=stack.enter_context(ended_by_signal()))
        detected = stack.enter_context(closing(_detect_all(detector, jobs, sampling, progress)))
        writers = (
            [] if dry_run else [stack.enter_context(file) for file in opened_results(workspace, saving, detector.task)]
        )
        for item in jobs if dry_run else detected:
            report(item)
            outcomes.add(item)
            if isinstance(item, Detected):
                for write in writers:
                    write(item)
    saved = tuple(workspace.detections / RESULTS[key].place for key in saving.results if not dry_run)
    weights = detector.runtime.declaration.weights
    return DetectResult(model.name, weights, path, str(detector.runtime), tuple(outcomes.items), saved)


def require_formats(saving: Saving) -> None:
    """Raise RuntimeUnavailableError if a format of results lacks its library."""
    require(*(needed for key in saving.results if (needed := RESULTS[key].needs)))


def opened_results(
    workspace: Workspace, saving: Saving, task: DetectionTask
) -> Iterator[AbstractContextManager[Callable[[Detected], None]]]:
    columns = task.columns
    meaning = Meaning(task.labels, task.last_pixel, columns.attributes, columns.points)
    for key in saving.results:
        form = RESULTS[key]
        yield form.opened(workspace.detections / form.place, meaning)


def _detect_all(
    detector: Detector, jobs: Sequence[ImageJob], sampling: Sampling, progress: Progress
) -> Generator[Detected | NotRead, None, None]:
    for are_videos, run in groupby(jobs, key=lambda job: has_frames(job.image)):
        if are_videos:
            for job in run:
                with closing(detect_frames(detector, job, sampling, progress=progress)) as outcomes:
                    yield from outcomes
        else:
            images = tuple(run)
            meter = Meter("detecting", len(images), 0, progress)
            with closing(detect_each(detector, images)) as outcomes:
                for outcome in outcomes:
                    meter.step()
                    yield outcome


def detect_each(detector: Detector, jobs: Sequence[ImageJob]) -> Generator[Detected | NotRead, None, None]:
    """Yield the outcome of each image, in order. Threads read images while the runtime computes others.

    Closing the generator ends its threads.
    """
    groups = [jobs[start : start + detector.shared.batch] for start in range(0, len(jobs), detector.shared.batch)]
    with closing(detector.shared.each(partial(detect_group, detector), groups)) as results:
        for group in results:
            yield from group


def _selected(arguments: Sequence[str | Path]) -> tuple[ImageFile, ...]:
    """The files of the arguments, or the one camera. Raises UsageError."""
    cameras = [Path(argument) for argument in arguments if is_camera(argument)]
    if cameras and len(arguments) > 1:
        raise UsageError(f"{cameras[0]}: a camera has no end of its own; name it alone")
    if cameras:
        device_of(str(cameras[0]))
    return tuple(cameras) or select_images(arguments, remedy="name fewer, or take --resume")


def jobs_of(images: Sequence[ImageFile], folder: Path, saving: Saving) -> tuple[ImageJob, ...]:
    """A job for each image, with its own name: the image's, with a number if another one has it."""
    jobs = []
    names = Names()
    originals = {image.resolve() for image in images} if saving.images else set()
    for image in images:
        stem = image.stem.replace(":", "-") if is_camera(image) else image.stem
        name = names.add(stem, is_video=has_frames(image))
        picture = folder / f"{name}.{'mp4' if has_frames(image) else 'png'}" if saving.images else None
        if picture is not None and picture.resolve() in originals:
            raise UsageError(
                f"{picture}: is one of the images, and its picture would overwrite it; use another --output-dir"
            )
        jobs.append(ImageJob(image, name, picture, folder / "crops" if saving.crops else None, saving.margin))
    return tuple(jobs)


class Names:
    """Names for the results of images and videos, without regard to case, which some file systems ignore.

    A video `clip` has frames with the names `clip-000000` and so on, which no image may have.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last number behind a stem, so that a million equal ones take no longer
        self._videos: set[str] = set()
        self._like_frames: set[str] = set()  # the names of the videos whose frames would have names that are taken

    def add(self, stem: str, *, is_video: bool) -> str:
        number = self._numbers.get(stem.casefold(), 1)
        name = stem if number == 1 else f"{stem}-{number}"
        while self._is_taken(name.casefold(), is_video):
            number += 1
            name = f"{stem}-{number}"
        self._numbers[stem.casefold()] = number
        folded = name.casefold()
        self._taken.add(folded)
        self._like_frames.add(_video_of(folded))
        if is_video:
            self._videos.add(folded)
        return name

    def _is_taken(self, name: str, is_video: bool) -> bool:
        return name in self._taken or _video_of(name) in self._videos or (is_video and name in self._like_frames)


def _video_of(frame: str) -> str:
    """The name of the video that a frame of this name has, or ""."""
    match = re.fullmatch(r"(.+)-\d{6,}", frame)
    return match[1] if match else ""


@dataclass(frozen=True)
class _Read:
    """An image in the network's size, and the original if a picture needs it and it is at most MOST_KEPT."""

    fitted: Fitted
    original: Pixels | None


def detect_group(detector: Detector, jobs: Sequence[ImageJob]) -> list[Detected | NotRead]:
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
    rows, best_first = detections.rows(None), listed(detections, detector.task)
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
    return save_crops(job, image, done, last_pixel)
