"""A converted model as a detector: it takes images of any size and returns detections in their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sshconvert.arrays import Pixels
from sshconvert.errors import DetectionError, NonfiniteError
from sshconvert.model_api import padding
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.inside import OutputForm
from sshconvert.tasks.results import Detections
from sshtool.concurrency import SharedRuntime
from sshtool.images import Placement, Resize, fit, fit_as_model_api
from sshtool.runtimes.base import Outputs, Settings, check_finite
from sshtool.runtimes.loading import load


@dataclass(frozen=True)
class DetectorOptions:
    """How to detect.

    `runtime` is a runtime's key, "" for the usual one of the file. `threshold` is the least score, None for the greater
    of 0.5 and the task's.
    """

    runtime: str = ""
    settings: Settings = field(default_factory=Settings)
    threshold: float | None = None
    resize: Resize = Resize.LETTERBOX


@dataclass(frozen=True)
class Fitted:
    """An image in the network's size, uint8 [H, W, 3], and the placement of the original in it."""

    pixels: Pixels
    placement: Placement


class Detector:
    """A loaded model, for any number of threads. It resizes images to its declared size, or to the model's."""

    def __init__(self, path: Path, model: ModelSpec, options: DetectorOptions = DetectorOptions()) -> None:
        """Load an artifact. Raises UsageError for a meaningless threshold, and what loading raises."""
        task = detection_task(model.name, model.task)
        task.for_display(options.threshold)  # raises before loading
        self.runtime = load(path, model, options.settings, key=options.runtime)
        inside = self.runtime.declaration.faces
        if inside:
            task = task.with_thresholds(inside.score_threshold, inside.iou_threshold)
        self.task = task.for_display(options.threshold, dropped_by=str(path) if inside else "upstream")
        self.shared = SharedRuntime(self.runtime)
        self._size = self.runtime.declaration.image_size(model)
        self._path = path
        self._resize = options.resize
        self._padding = model.image.mean_pixel  # becomes zero, as a convolution's own padding
        self._grey = padding(model) if inside and inside.form is OutputForm.MODEL_API else None

    def find(self, images: Sequence[Pixels]) -> list[Detections]:
        """The detections in each image (uint8 [H, W, 3], BGR), in its pixels, best first.

        Raises ArtifactError, DetectionError and NonfiniteError for faults of the artifact.
        """
        batch = self.shared.batch
        results: list[Detections] = []
        for start in range(0, len(images), batch):
            for detections in self.find_in_fitted([self.fit(image) for image in images[start : start + batch]]):
                if isinstance(detections, NonfiniteError):
                    raise detections
                results.append(detections)
        return results

    def fit(self, image: Pixels) -> Fitted:
        """Resize an image to the network's size: for a file in Model API's form as Model API letterboxes it."""
        if self._grey is not None and self._resize is Resize.LETTERBOX:
            return Fitted(*fit_as_model_api(image, *self._size, self._grey))
        return Fitted(*fit(image, *self._size, self._resize, self._padding))

    def find_in_fitted(self, images: Sequence[Fitted]) -> list[Detections | NonfiniteError]:
        """The detections in each image of one batch, or the error if its outputs are not finite."""
        if not images:
            return []
        outputs = self.shared.run([image.pixels for image in images])
        try:
            decoded = self._decode(outputs)
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None
        problems = [self._problem(outputs, number) for number in range(len(images))]
        return [
            problem or image.placement.to_image(detections, self.task.last_pixel)
            for image, detections, problem in zip(images, decoded, problems, strict=True)
        ]

    def _problem(self, outputs: Outputs, number: int) -> NonfiniteError | None:
        try:
            check_finite({name: values[number : number + 1] for name, values in outputs.items()})
        except NonfiniteError as error:
            return NonfiniteError(f"{self._path}: {error}")
        return None

    def _decode(self, outputs: Outputs) -> list[Detections]:
        if self.runtime.declaration.faces is None:
            return self.task.decode(outputs, self._size)
        threshold = self.task.score_threshold
        return [detections.from_score(threshold) for detections in self.task.decode_inside(outputs)]
