"""Detection in any number of images: with a journal to go on after an interruption, here or on a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final

from sshconvert import __version__
from sshconvert.digest import file_sha256
from sshconvert.errors import UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.libraries import PILLOW, require
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line
from sshconvert.tasks.detection import detection_task
from sshtool.candidates import usual_artifact
from sshtool.cluster.client import Cluster, Summary
from sshtool.cluster.work import Opened, Work, each, on_worker
from sshtool.detection import Names, Saving, detect_each, detect_group, jobs_of, opened_results, require_formats
from sshtool.detection_journal import VERSION, DetectionJournal, Header, read_outcomes
from sshtool.detector import Detector, DetectorOptions
from sshtool.meter import Meter
from sshtool.progress import Progress, silent
from sshtool.results.base import RESULTS
from sshtool.results.outcomes import Detected, ImageJob, NotRead
from sshtool.selection import image_of, list_images
from sshtool.stores import StoredFile
from sshtool.video.naming import is_camera, is_video
from sshtool.workspace import Workspace

JOURNAL: Final = "detections.journal"
MOST_LISTED: Final = 20  # images that could not be read, in the result


@dataclass(frozen=True)
class DetectionRun:
    """What a run did: its counts, the first unreadable images, and its files.

    `resumed` counts the images of earlier runs, `rate` is that of this run in images per second, and `cluster` says
    what the cluster did, if any.
    """

    model: str
    weights: str
    artifact: Path
    runtime: str
    images: int
    detections: int
    unreadable: int
    not_read: tuple[NotRead, ...]
    resumed: int
    rate: float
    journal: Path
    saved: tuple[Path, ...]
    cluster: Summary | None = None


@dataclass(frozen=True)
class DetectWork(Work[ImageJob, Detected | NotRead]):
    """Detection on a worker, which computes with the threads that Dask gives it."""

    model: ModelSpec
    options: DetectorOptions

    def open(self, artifact: Path, threads: int) -> Opened[ImageJob, Detected | NotRead]:
        settings = on_worker(self.options.settings, threads)
        detector = Detector(artifact, self.model, replace(self.options, settings=settings))

        def compute(jobs: Sequence[ImageJob]) -> list[Detected | NotRead]:
            batch = detector.shared.batch
            groups = [self._placed(jobs[start : start + batch]) for start in range(0, len(jobs), batch)]
            remote = any(isinstance(job.image, StoredFile) for job in jobs)
            outcomes = chain(*each(partial(detect_group, detector), groups, remote=remote))
            return [self._named(artifact, job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]

        return Opened(compute, str(detector.runtime))

    def _placed(self, jobs: Iterable[ImageJob]) -> list[ImageJob]:
        return [replace(job, image=self.place(job.image)) for job in jobs]

    def _named(self, artifact: Path, job: ImageJob, outcome: Detected | NotRead) -> Detected | NotRead:
        if isinstance(outcome, Detected):
            return replace(outcome, image=job.image)
        return replace(outcome, image=job.image, message=self.named(outcome.message, artifact, job.image))

    def lost(self, item: ImageJob, reason: str) -> NotRead:
        return NotRead(item.image, "ClusterError", f"{item.image}: {reason}; look at it on one machine")


def run_detection(
    workspace: Workspace,
    images: Sequence[str | Path],
    options: DetectorOptions = DetectorOptions(),  # noqa: B008  # frozen
    *,
    artifact: Path | None = None,
    saving: Saving = Saving(),  # noqa: B008  # as above
    scheduler: str = "",
    resume: bool = False,
    report: Callable[[Detected | NotRead], None] = lambda _: None,
    progress: Progress = silent,
) -> DetectionRun:
    """Detect in any number of images. The journal is `workspace.detections`/detections.journal.

    Args:
        workspace: The model and the output folder.
        images: Files, folders, patterns and URLs, as the workers find them.
        options: The runtime, the threshold and the resizing.
        artifact: The converted model; by default the usual one of the workspace.
        saving: What to save in `workspace.detections`. Pictures and cut-outs are for runs without a cluster.
        scheduler: The address of a Dask scheduler, or its JSON file; "" computes here.
        resume: Go on after the outcomes of an earlier run of the same options and images.
        report: Receives each outcome, in order, also those of the earlier run.
        progress: Receives each step.

    Raises:
        UsageError: Before the first image, for options or images that make no sense.
        EvaluationError: The journal to go on with belongs to another run, or is damaged.
        ClusterError: The cluster cannot be reached or fails.
        SSHToolError: What loading and running the artifact and writing the files raise.

    """
    require(PILLOW)
    model = workspace.model
    detection_task(model.name, model.task).for_display(options.threshold)  # raises before the images are listed
    require_formats(saving)
    if scheduler and (saving.images or saving.crops):
        raise UsageError(
            "--save-images and --save-crops write where the model runs, so they exclude --scheduler; detect again in "
            "the images that you want to see"
        )
    cluster = Cluster(scheduler, options.settings, progress) if scheduler else None
    names = _images(images)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    options = replace(options, settings=replace(options.settings, throughput=True))
    detector = Detector(path, model, options)
    header = _header(model, path, detector, options, saving, names)
    tally = _Tally()
    place = workspace.detections / JOURNAL
    with ExitStack() as stack:
        journal = stack.enter_context(DetectionJournal(place, header, resume=resume))
        write = [stack.enter_context(file) for file in opened_results(workspace, saving, detector.task)]
        done = journal.done
        meter = Meter("detecting", len(names), done, progress)

        def finished() -> Iterator[Detected | NotRead]:
            if cluster is None:
                jobs = jobs_of([image_of(name) for name in names], workspace.detections, saving)
                new = detect_each(detector, jobs[done:])
            else:
                work = DetectWork(path, str(detector.runtime), Path.cwd(), model, options)
                new = cluster.each(work, islice(_jobs_of_millions(names, saving), done, None))
            with closing(new):
                for outcome in new:
                    journal.append(outcome)
                    meter.step()
                    yield outcome

        for outcome in chain(islice(read_outcomes(place), done), finished()):
            report(outcome)
            tally.add(outcome)
            if isinstance(outcome, Detected):
                for write_one in write:
                    write_one(outcome)
    return DetectionRun(
        model.name,
        detector.runtime.declaration.weights,
        path,
        str(detector.runtime),
        tally.images,
        tally.detections,
        tally.unreadable,
        tuple(tally.not_read),
        done,
        meter.rate,
        place,
        tuple(workspace.detections / RESULTS[key].place for key in saving.results),
        cluster.summary if cluster else None,
    )


def _images(arguments: Sequence[str | Path]) -> list[str]:
    """The names of the images. Raises UsageError for videos and cameras, which have no names for their frames."""
    video = next((argument for argument in map(str, arguments) if is_camera(argument)), None)
    names = [] if video else list_images(arguments)
    video = video or next((name for name in names if is_video(image_of(name))), None)
    if video:
        raise UsageError(
            f"{one_line(video)}: --scheduler and --resume are for images; leave them out for a video or camera"
        )
    return names


def _jobs_of_millions(names: Iterable[str], saving: Saving) -> Iterator[ImageJob]:
    """A job for each image. A result format with a file for each image needs distinct names, which stay in memory."""
    distinct = Names() if any(RESULTS[key].names_files for key in saving.results) else None
    for image in map(image_of, names):
        yield ImageJob(image, image.stem if distinct is None else distinct.add(image.stem, is_video=False))


def _header(
    model: ModelSpec, path: Path, detector: Detector, options: DetectorOptions, saving: Saving, names: Sequence[str]
) -> Header:
    chosen = {
        "threshold": repr(detector.task.score_threshold),
        "resize": options.resize.value,
        "saved": " ".join(name for name in ("images", "crops") if getattr(saving, name)),
        "margin": repr(saving.margin),
    }
    return Header(
        journal=VERSION,
        sshtool=__version__,
        model=model.name,
        weights=detector.runtime.declaration.weights,
        files={name_text(file.name): file_sha256(file) for file in artifact_files(path)},
        computer=str(detector.runtime),
        options=chosen,
        images=len(names),
        names=_digest(names),
    )


def _digest(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


class _Tally:
    """Counts outcomes."""

    def __init__(self) -> None:
        self.images = self.detections = self.unreadable = 0
        self.not_read: list[NotRead] = []

    def add(self, outcome: Detected | NotRead) -> None:
        self.images += 1
        if isinstance(outcome, Detected):
            self.detections += len(outcome.detections)
            return
        self.unreadable += 1
        if len(self.not_read) < MOST_LISTED:
            self.not_read.append(outcome)
