"""Feeds: how a protocol resizes an image for the network, and turns the outputs into predictions in image pixels.

`omz` stretches every image to one size. `wider` runs upstream's test at one scale, or at a pyramid of four, so that the
input's size depends on the image. A network of fixed size can run `wider` on letterboxed or stretched images; the
figures then carry a note that this is not upstream's test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.contract import Declaration
from sshconvert.models.protocols import OmzRules
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import DetectionTask, detection_task
from sshconvert.tasks.results import Detections
from sshtool.bilinear import resize
from sshtool.evaluate import omz
from sshtool.evaluate.predictions import Predictions, from_corners
from sshtool.images import Resize, fit
from sshtool.runtimes.base import Outputs

# Before the settings of omz that are not SSH's.
RULES: Final = "; "

Size = tuple[int, int]  # height and width
Run = Callable[[Pixels], Outputs]

# Upstream's pyramid: the length of the shorter side, and the limit of the longer side.
PYRAMID_SIDES: Final = (800, 1200)
# Multiples of the scale of `PYRAMID_SIDES`. The last leaves out the heads of the largest stride.
PYRAMID: Final = (500 / 800, 1.0, 1200 / 800, 1600 / 800)


class Feed(ABC):
    """One protocol's way of running the network."""

    protocol: str
    text: str  # how the image is resized
    note: str = ""  # why the figures do not compare to published ones

    @abstractmethod
    def sizes(self, height: int, width: int) -> list[Size]:
        """The input sizes for an image of `height` x `width`."""

    @abstractmethod
    def find(self, image: Pixels, run: Run) -> Predictions:
        """The predictions for an image, uint8 [H, W, 3], BGR. `run` computes the outputs for one such input.

        Raises DetectionError if the outputs are not this model's, and the errors of `run`.
        """


class Omz(Feed):
    """Rules 2 and 3 of `omz`."""

    protocol = omz.PROTOCOL

    def __init__(self, model: ModelSpec, size: Size) -> None:
        self._size, self._task, self._rules = size, detection_task(model.name, model.task), model.omz
        self.text = f"stretched to {_text(size)}{rules_text(model.omz)}"
        published = model.image_shape[2:]
        if size != published:
            self.note = f"defined at {_text(published)}, run at {_text(size)}"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [self._size]

    def find(self, image: Pixels, run: Run) -> Predictions:
        (height, width), (new_height, new_width) = image.shape[:2], self._size
        scale_y, scale_x = new_height / height, new_width / width
        outputs = run(resize(image, self._size, scale_y, scale_x))
        return omz.decode(outputs, [(scale_x, scale_y)], self._task, self._rules, input_size=self._size)[0]


class UpstreamScales(Feed):
    """Rule 7 of `wider`: upstream's detections at one scale, or joined over its pyramid."""

    protocol = "wider"

    def __init__(self, model: ModelSpec, *, pyramid: bool) -> None:
        self._task, self._pyramid = _wider_task(model), pyramid
        self._sides = sides = PYRAMID_SIDES if pyramid else (model.wider.shorter_side, model.wider.longer_side)
        self.text = f"shorter side to {sides[0]}, longer at most {sides[1]}"
        if pyramid:
            self.text += f", times {', '.join(f'{factor:g}' for factor in PYRAMID)}"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [_scaled(height, width, scale) for scale in self._scales(height, width)]

    def find(self, image: Pixels, run: Run) -> Predictions:
        height, width = image.shape[:2]
        detections = []
        for number, scale in enumerate(self._scales(height, width), start=1):
            size = _scaled(height, width, scale)
            task = self._task.without_coarsest() if number == len(PYRAMID) else self._task
            candidates = _candidates(run(resize(image, size, scale, scale)), size, task)
            detections.append(replace(candidates, boxes=candidates.boxes / np.float32(scale)))
        return _predictions(self._task.select(Detections.join(detections)))

    def _scales(self, height: int, width: int) -> list[float]:
        if not self._pyramid:
            return [upstream_scale(height, width, *self._sides)]
        base = upstream_scale(height, width, *self._sides)
        return [base * factor for factor in PYRAMID]


class Fitted(Feed):
    """`wider` for a network of fixed size: resizes images as `sshtool detect` does."""

    protocol = "wider"

    def __init__(self, model: ModelSpec, size: Size, mode: Resize) -> None:
        self._size, self._mode = size, mode
        self._task, self._padding = _wider_task(model), model.image.mean_pixel
        self.text = f"{mode.value} to {_text(size)}"
        self.note = f"run with {mode.value} to {_text(size)}, not at upstream's test scale"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [self._size]

    def find(self, image: Pixels, run: Run) -> Predictions:
        pixels, placement = fit(image, *self._size, self._mode, self._padding)
        detections = self._task.select(_candidates(run(pixels), self._size, self._task))
        return _predictions(placement.to_image(detections, self._task.last_pixel))


def rules_text(rules: OmzRules) -> str:
    """The settings of omz that are not SSH's, in words behind the resize; "" for SSH's."""
    return f"{RULES}{rules.differences()}" if rules.differences() else ""


def _wider_task(model: ModelSpec) -> DetectionTask:
    """The task with the score threshold of upstream's test."""
    return detection_task(model.name, model.task).with_thresholds(model.wider.score_threshold)


def accepts(declaration: Declaration, size: Size) -> bool:
    """Whether an artifact takes images of `size`."""
    return all(declared in (None, side) for declared, side in zip(declaration.input_shape[2:], size, strict=True))


def upstream_scale(height: int, width: int, shorter: int, longer: int) -> float:
    """The factor that makes the shorter side `shorter`, or the longer one `longer` if it would exceed that."""
    scale = shorter / min(height, width)
    return scale if round(scale * max(height, width)) <= longer else longer / max(height, width)


def _scaled(height: int, width: int, scale: float) -> Size:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _candidates(outputs: Outputs, size: Size, task: DetectionTask) -> Detections:
    candidates = task.candidates(outputs, size)[0]
    omz.check_outputs(outputs, task)
    return candidates


def _predictions(detections: Detections) -> Predictions:
    return from_corners(detections.boxes, detections.scores)


def _text(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width}x{height}"
