"""A converted model as a face detector: images of any size in, faces in their own pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sshconvert.arrays import Floats, Pixels
from sshconvert.errors import DetectionError, NonfiniteError, UsageError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.anchor_detection import AnchorDetection, detect
from sshtool.concurrency import SharedRuntime
from sshtool.images import Placement, Resize, fit
from sshtool.runtimes.base import Outputs, Settings, check_finite, faces_in
from sshtool.runtimes.loading import load

THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class DetectorOptions:
    """How to detect. `runtime` is a runtime's key, "" for the usual one of the file; `threshold` is the least score,
    None for 0.5, or for that of the rules if it is higher.
    """

    runtime: str = ""
    settings: Settings = field(default_factory=Settings)
    threshold: float | None = None
    resize: Resize = Resize.LETTERBOX


@dataclass(frozen=True)
class Fitted:
    """An image as the network sees it, uint8 [H, W, 3], and where it lies there."""

    pixels: Pixels
    placement: Placement


class FaceDetector:
    """A loaded model, for any number of threads. Images get the size that it declares, or the original's if any will
    do.
    """

    def __init__(self, path: Path, model: ModelSpec, options: DetectorOptions = DetectorOptions()) -> None:
        """Load a file. Raises UsageError for a threshold that means nothing, and what loading it raises."""
        with_threshold(model.task, options.threshold)  # before a file is loaded
        self.runtime = load(path, model, options.settings, key=options.runtime)
        inside = self.runtime.declaration.faces
        rules = inside.rules(model.task) if inside else model.task
        self.rules = with_threshold(rules, options.threshold, dropped_by=str(path) if inside else "upstream")
        self.shared = SharedRuntime(self.runtime)
        self._size = self.runtime.declaration.image_size(model)
        self._path = path
        self._resize = options.resize
        self._padding = model.image.mean_pixel  # nothing is left of it, as of a convolution's own padding

    def find(self, images: Sequence[Pixels]) -> list[Floats]:
        """Faces of each image (uint8 [H, W, 3], BGR): float32 [K, 5], x1, y1, x2, y2 in its pixels, score; best first.

        Raises ArtifactError and DetectionError where the file is to blame.
        """
        batch = self.shared.batch
        groups = (images[start : start + batch] for start in range(0, len(images), batch))
        found = [each for group in groups for each in self.find_in_fitted([self.fit(image) for image in group])]
        for each in found:
            if isinstance(each, NonfiniteError):
                raise each
        return [each for each in found if not isinstance(each, NonfiniteError)]

    def fit(self, image: Pixels) -> Fitted:
        """The image in the size of the network."""
        return Fitted(*fit(image, *self._size, self._resize, self._padding))

    def find_in_fitted(self, images: Sequence[Fitted]) -> list[Floats | NonfiniteError]:
        """As `find`, of no more images than the network takes at a time; the error of those with outputs that are not
        finite.
        """
        if not images:
            return []
        outputs = self.shared.run([image.pixels for image in images])
        try:
            faces = self._faces(outputs)
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None
        problems = [self._problem(outputs, number) for number in range(len(images))]
        return [
            problem or image.placement.to_image(boxes)
            for image, boxes, problem in zip(images, faces, problems, strict=True)
        ]

    def _problem(self, outputs: Outputs, number: int) -> NonfiniteError | None:
        try:
            check_finite({name: values[number : number + 1] for name, values in outputs.items()})
        except NonfiniteError as error:
            return NonfiniteError(f"{self._path}: {error}")
        return None

    def _faces(self, outputs: Outputs) -> list[Floats]:
        if self.runtime.declaration.faces is None:
            return detect(outputs, self._size, self.rules)
        return [boxes[boxes[:, 4] >= self.rules.score_threshold] for boxes in faces_in(outputs)]


def with_threshold(rules: AnchorDetection, threshold: float | None, *, dropped_by: str = "upstream") -> AnchorDetection:
    """The rules with a higher score threshold. Raises UsageError if it is lower than that of the rules, or above 1."""
    least = rules.score_threshold
    threshold = max(THRESHOLD, least) if threshold is None else threshold
    if not least <= threshold <= 1:
        raise UsageError(
            f"--threshold: {threshold:g} is not between {least:g} and 1; {dropped_by} drops scores below {least:g}"
        )
    return rules.model_copy(update={"score_threshold": threshold})
