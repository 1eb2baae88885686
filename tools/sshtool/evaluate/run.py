"""Evaluates one artifact on the images of a dataset. Reading, inference and decoding run in parallel."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.errors import ArtifactError, DetectionError, ImageError, NonfiniteError
from sshconvert.messages import printable
from sshconvert.models.protocols import OmzRules
from sshconvert.models.spec import ModelSpec
from sshtool.cluster.work import Opened, Work, each, on_worker
from sshtool.concurrency import SharedRuntime
from sshtool.evaluate.curves import SHOWN
from sshtool.evaluate.feeding import Feed, Size
from sshtool.evaluate.journal import ImageFinding
from sshtool.evaluate.predictions import NONE, Predictions, write_predictions
from sshtool.evaluate.records import ImageRecord
from sshtool.evaluate.score import judge_image
from sshtool.images import reading
from sshtool.runtimes.base import Outputs, Runtime, Settings, check_finite
from sshtool.runtimes.loading import load
from sshtool.stores import ImageFile, StoredFile
from sshtool.wider_face.ground_truth import ImageTruth

Box = tuple[float, float, float, float, float]

# The number of boxes that a report shows on one image.
MOST_SHOWN: Final = 200


@dataclass(frozen=True)
class Job:
    """An image to evaluate: its number and its name in the dataset, and its file."""

    index: int
    image: str
    path: ImageFile


@dataclass(frozen=True)
class Illustration:
    """An image with faults, for the report: an artifact's predictions, the faces, and the path of the image, if any.

    `rules` are those of omz.
    """

    artifact: str
    protocol: str
    entry: Entry
    truth: ImageTruth
    path: ImageFile | None
    rules: OmzRules


class Evaluator:
    """Runs a loaded artifact by the rules of one or more protocols."""

    def __init__(
        self, path: Path, runtime: Runtime, feeds: Sequence[Feed], *, saved: Mapping[str, Path] | None = None
    ) -> None:
        """`path` is the artifact's. `saved` maps protocols to the folders that receive their predictions."""
        self._path, self._feeds, self.saved = path, feeds, saved or {}
        self._shared = SharedRuntime(runtime)

    def warm_up(self, size: Size, outputs: Sequence[str]) -> None:
        """Compute once in the caller's thread, because libraries may not initialise in several threads at once.

        Raises ArtifactError if the artifact cannot run, or lacks one of the `outputs` that protocols decode.
        """
        computed = self._shared.run([np.zeros((*size, 3), np.uint8)])
        if self._shared.runtime.declaration.faces is not None and not computed.keys() >= set(outputs):
            raise ArtifactError(
                f"{self._path}: gives decoded results, but the protocols decode the heads by their own rules; convert "
                "without --postprocess, or with --keep-heads"
            )

    def evaluate(self, jobs: Sequence[Job]) -> Generator[ImageFinding, None, None]:
        """Yield the finding of each image, in their order. Closing the generator ends its threads.

        An unreadable image, and one for which the artifact gives NaN or infinity, gives a finding with a failure.

        Raises ArtifactError and DetectionError for faults of the artifact, OutputError if predictions cannot be
        written, RuntimeUnavailableError without Pillow.
        """
        return self._shared.each(self.evaluate_one, jobs)

    def evaluate_one(self, job: Job) -> ImageFinding:
        """Return the finding of an image. Raises what `evaluate` raises."""
        try:
            with reading(job.path) as image:
                predictions = {feed.protocol: self._find(feed, image) for feed in self._feeds}
        except (ImageError, NonfiniteError) as error:
            return failed(job, self._feeds, printable(error))
        finding = ImageFinding(job.index, job.image, predictions)
        save(finding, self.saved)
        return finding

    def _find(self, feed: Feed, image: Pixels) -> Predictions:
        try:
            return feed.find(image, self._finite)
        except NonfiniteError as error:
            raise NonfiniteError(f"{self._path}: {error}") from None
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None

    def _finite(self, image: Pixels) -> Outputs:
        outputs = self._shared.run([image])
        check_finite(outputs)
        return outputs


def failed(job: Job, feeds: Sequence[Feed], failure: str) -> ImageFinding:
    """The finding of an image that was not evaluated."""
    return ImageFinding(job.index, job.image, {feed.protocol: NONE for feed in feeds}, failure)


def save(finding: ImageFinding, folders: Mapping[str, Path]) -> None:
    """Write the predictions of a finding, by protocol. Raises OutputError."""
    for protocol, folder in folders.items():
        write_predictions(folder, finding.image, finding.predictions[protocol])


@dataclass(frozen=True)
class EvaluateWork(Work[Job, ImageFinding]):
    """Evaluation on a worker, which computes with the threads that Dask gives it."""

    model: ModelSpec
    runtime: str
    settings: Settings
    feeds: tuple[Feed, ...]

    def open(self, artifact: Path, threads: int) -> Opened[Job, ImageFinding]:
        settings = on_worker(self.settings, threads)
        runtime = load(artifact, self.model, settings, key=self.runtime)
        evaluator = Evaluator(artifact, runtime, self.feeds)

        def find(job: Job) -> ImageFinding:
            finding = evaluator.evaluate_one(replace(job, path=self.place(job.path)))
            return replace(finding, failure=self.named(finding.failure, artifact, job.path))

        def compute(jobs: Sequence[Job]) -> list[ImageFinding]:
            return each(find, jobs, remote=any(isinstance(job.path, StoredFile) for job in jobs))

        return Opened(compute, str(runtime))

    def lost(self, item: Job, reason: str) -> ImageFinding:
        return failed(item, self.feeds, f"{item.path}: {reason}; look at it on one machine")


@dataclass(frozen=True)
class Entry:
    """An image's record, and by protocol the boxes for the report: x, y, w, h in pixels, and score."""

    record: ImageRecord
    shown: Mapping[str, Sequence[Box]]


def judged(finding: ImageFinding, truth: ImageTruth, rules: OmzRules) -> Entry:
    """Judge the predictions for an image. `rules` are those of omz."""
    record = judge_image(finding.index, truth, finding.predictions, failure=finding.failure, rules=rules)
    return Entry(record, {protocol: shown(predictions) for protocol, predictions in finding.predictions.items()})


def shown(predictions: Predictions) -> list[Box]:
    """The boxes for the report, in their order."""
    visible = predictions.scores >= SHOWN
    rows = np.column_stack([predictions.boxes[visible], predictions.scores[visible]])[:MOST_SHOWN].tolist()
    return [(x, y, w, h, score) for x, y, w, h, score in rows]
