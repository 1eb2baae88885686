"""Detects in the frames of a video or camera, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from threading import Event
from typing import Any, Final, TypeVar

from sshconvert.errors import NonfiniteError, VideoError
from sshconvert.tasks.results import Detections
from sshtool.concurrency import WAITING
from sshtool.detector import Detector, Fitted
from sshtool.images import MEMORY
from sshtool.meter import Meter
from sshtool.picture import drawn
from sshtool.progress import Progress, silent
from sshtool.results.crops import save_crops
from sshtool.results.outcomes import Detected, ImageJob, NotRead, listed
from sshtool.video.reading import Damaged, Frame, Video, missing, open_video
from sshtool.video.writing import encodable, written

_Item = TypeVar("_Item")

# Bytes of the frames that are in work or wait for their turn.
IN_WORK: Final = 512 << 20
_DECODED: Final = 7  # bytes of a pixel as decoded, and of the drawn frame
_CONVERTED: Final = 10  # bytes of a pixel during its conversion, resizing or drawing


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video count: each `every`-th from the first on, at most `most`, until the event `end` is set.

    A `most` of 0 is no limit.
    """

    every: int = 1
    most: int = 0
    end: Event = field(default_factory=Event)


@dataclass(frozen=True)
class _Done:
    outcome: Detected | NotRead
    frame: Frame | None = None
    picture: Any = None  # to be encoded


def detect_frames(
    detector: Detector, job: ImageJob, sampling: Sampling = Sampling(), *, progress: Progress = silent
) -> Generator[Detected | NotRead, None, None]:
    """Yield the outcome of each frame of a video or camera, in order, and of the video if it cannot be read to its end.

    Threads detect while further frames are decoded. The video of `job.picture` is there when the generator ends.
    Closing the generator ends its threads, without that video. Raises OutputError.
    """
    try:
        with open_video(job.image) as video, ExitStack() as files:
            total = -(-video.total // sampling.every)
            total = min(total, sampling.most) if total and sampling.most else total or sampling.most
            meter = Meter(f"detecting in {job.image}", total, 0, progress, unit="frames")
            writer = None
            results = files.enter_context(closing(_each(detector, job, _chosen(video, sampling))))
            for done in results:
                if done.picture is not None and done.frame is not None:
                    writer = writer or files.enter_context(_writer(job, video, done.frame))
                    writer.write(done.picture, done.frame.ticks)
                meter.step()
                yield done.outcome
    except VideoError as error:
        yield NotRead(job.image, type(error).__name__, str(error))


def _writer(job: ImageJob, video: Video, frame: Frame) -> Any:
    assert job.picture is not None
    aspect = 1 / video.aspect if frame.is_sideways else video.aspect
    return written(job.picture, video.time_base, video.rate, aspect)


def _chosen(video: Video, sampling: Sampling) -> Iterator[Frame | NotRead]:
    """Yield the frames that count, damaged ones among them, and at last what ended the video before its end."""
    taken = 0
    try:
        for frame in video.frames():
            if sampling.end.is_set():
                return
            if frame.number % sampling.every:
                continue
            yield _not_read(video, frame) if isinstance(frame, Damaged) else frame
            taken += 1
            if taken == sampling.most:
                return
        if lacking := missing(video.name):
            yield NotRead(video.name, VideoError.__name__, lacking)
    except VideoError as error:
        if not sampling.end.is_set():  # a signal interrupts reading from a camera
            yield NotRead(video.name, type(error).__name__, str(error))


def _not_read(video: Video, frame: Damaged) -> NotRead:
    text = f"{video.name}: frame {frame.number} cannot be decoded ({frame.problem}); copy or export the video again"
    return NotRead(video.name, VideoError.__name__, text, frame.number, frame.time)


def _each(detector: Detector, job: ImageJob, items: Iterable[Frame | NotRead]) -> Generator[_Done, None, None]:
    """Detect in frames of one size after another: the size decides how many are in work at the same time."""
    batch = detector.shared.batch
    for (height, width), run in groupby(items, key=_LastSize()):
        batches = _batches(run, batch)
        most = max(1, IN_WORK // (WAITING * batch * max(1, height * width * _DECODED)))
        with closing(detector.shared.each(partial(_detect_batch, detector, job), batches, most=most)) as results:
            for result in results:
                yield from result


def _batches(items: Iterator[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    while batch := tuple(islice(items, size)):
        yield batch


class _LastSize:
    """The size of a frame, and for what is none that of the frame before it."""

    def __init__(self) -> None:
        self._size = 0, 0

    def __call__(self, item: Frame | NotRead) -> tuple[int, int]:
        if isinstance(item, Frame):
            self._size = item.size
        return self._size


def _detect_batch(detector: Detector, job: ImageJob, items: Sequence[Frame | NotRead]) -> list[_Done]:
    fitted = [_fitted(detector, job, item) for item in items]
    detections = iter(detector.find_in_fitted([item for item in fitted if isinstance(item, Fitted)]))
    done = []
    for frame, item in zip(items, fitted, strict=True):
        if isinstance(item, NotRead):
            done.append(_Done(item))
        elif isinstance(frame, Frame):
            done.append(_done(detector, job, frame, item, next(detections)))
    return done


def _fitted(detector: Detector, job: ImageJob, item: Frame | NotRead) -> Fitted | NotRead:
    if isinstance(item, NotRead):
        return item
    try:
        with MEMORY.reserved(_memory(item)):
            return detector.fit(item.pixels())
    except VideoError as error:
        return _failed(job, item, error)


def _done(
    detector: Detector, job: ImageJob, frame: Frame, fitted: Fitted, detections: Detections | NonfiniteError
) -> _Done:
    if isinstance(detections, NonfiniteError):
        return _Done(_failed(job, frame, detections))
    placement, precision = fitted.placement, detector.runtime.inference_precision
    size = placement.width, placement.height
    best_first = listed(detections, detector.task)
    name = f"{job.name}-{frame.number:06}"
    done = Detected(job.image, *size, best_first, job.picture, precision, name, (), frame.number, frame.time)
    if not job.is_drawn:
        return _Done(done)
    try:
        with MEMORY.reserved(_memory(frame)):
            pixels = frame.pixels()
            done = save_crops(job, pixels, done, detector.task.last_pixel)
            picture = encodable(drawn(pixels, detections.rows(None))) if job.picture is not None else None
    except VideoError as error:
        return _Done(_failed(job, frame, error))
    return _Done(done, frame, picture)


def _failed(job: ImageJob, frame: Frame, error: VideoError | NonfiniteError) -> NotRead:
    text = f"{job.image}: frame {frame.number}: {error}"
    return NotRead(job.image, type(error).__name__, text, frame.number, frame.time)


def _memory(frame: Frame) -> int:
    height, width = frame.size
    return height * width * _CONVERTED
