"""A converted model as a face detector: images of any size in, faces in their own pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.detection import detect
from sshconvert.errors import DetectionError, UsageError
from sshconvert.models import Detection, Model
from sshtool.images import Boxes, Image, Resize, fit
from sshtool.runtimes import Outputs, Settings, faces_in, load

THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class DetectorOptions:
    """How to detect. `runtime` is a runtime's key, "" for the usual one of the file; `threshold` is the least score."""

    runtime: str = ""
    settings: Settings = field(default_factory=Settings)
    threshold: float = THRESHOLD
    resize: Resize = Resize.LETTERBOX


class FaceDetector:
    """A loaded model. Images get the size that it declares, or the original's size if it takes any."""

    def __init__(self, path: Path, model: Model, options: DetectorOptions = DetectorOptions()) -> None:
        """Load a file. Raises UsageError for a threshold that means nothing, and what loading it raises."""
        with_threshold(model.detection, options.threshold)  # before a file is loaded
        self.runtime = load(path, model, options.settings, key=options.runtime)
        inside = self.runtime.declaration.faces
        rules = inside.rules(model.detection) if inside else model.detection
        self.rules = with_threshold(rules, options.threshold, dropped_by=str(path) if inside else "upstream")
        self.batch = self.runtime.declaration.input_shape[0] or 1
        self._size = self.runtime.declaration.image_size(model)
        self._path = path
        self._resize = options.resize
        self._padding = model.input.mean_pixel  # nothing is left of it, as of a convolution's own padding

    def find(self, images: Sequence[Image]) -> list[Boxes]:
        """Faces of each image (uint8 [H, W, 3], BGR): float32 [K, 5], x1, y1, x2, y2 in its pixels, score; best first.

        Raises ArtifactError and DetectionError where the file is to blame.
        """
        groups = (images[start : start + self.batch] for start in range(0, len(images), self.batch))
        return [boxes for group in groups for boxes in self._find_in_batch(group)]

    def _find_in_batch(self, images: Sequence[Image]) -> list[Boxes]:
        fitted = [fit(image, *self._size, self._resize, self._padding) for image in images]
        inputs = [pixels for pixels, _ in fitted]
        inputs += inputs[-1:] * (self.batch - len(inputs))  # a model with a fixed batch takes no fewer
        outputs = self.runtime.run(np.stack(inputs))
        try:
            faces = self._faces(outputs)
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None
        return [placement.to_image(boxes) for (_, placement), boxes in zip(fitted, faces, strict=False)]

    def _faces(self, outputs: Outputs) -> list[Boxes]:
        if self.runtime.declaration.faces is None:
            return detect(outputs, self._size, self.rules)
        return [boxes[boxes[:, 4] >= self.rules.score_threshold] for boxes in faces_in(outputs)]


def with_threshold(rules: Detection, threshold: float, *, dropped_by: str = "upstream") -> Detection:
    """The rules with a higher score threshold. Raises UsageError if it is lower than that of the rules, or above 1."""
    least = rules.score_threshold
    if not least <= threshold <= 1:
        raise UsageError(
            f"--threshold: {threshold:g} is not between {least:g} and 1; {dropped_by} drops scores below {least:g}"
        )
    return rules.model_copy(update={"score_threshold": threshold})
