"""How each protocol shows an image to the network, and how what comes out becomes predictions in the image's pixels.

`omz` stretches the image to one size. `wider` runs upstream's test: one scale, or a pyramid of four, each of which
gives every image a size of its own; a network that takes one size only can stand in with a letterboxed or stretched
image, but that is not upstream's test any more, and the figures say so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from sshconvert.arrays import Floats, Indices, Pixels
from sshconvert.contract import Declaration
from sshconvert.errors import DetectionError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import DetectionTask, detection_task
from sshconvert.tasks.results import Detections
from sshtool.bilinear import neighbours
from sshtool.evaluate import omz
from sshtool.evaluate.predictions import Predictions, from_corners
from sshtool.images import Resize, fit
from sshtool.runtimes.base import Outputs

# Pixels between the two steps of a resize.
_PART: Final = 1 << 18

Size = tuple[int, int]  # height and width
Run = Callable[[Pixels], Outputs]

# Upstream's test: the shorter side gets the first length, if the longer one then is not longer than the second.
TEST_SIDES: Final = (1200, 1600)
PYRAMID_SIDES: Final = (800, 1200)
# Its pyramid: multiples of that scale. At the last one the heads of the largest stride are left out.
PYRAMID: Final = (500 / 800, 1.0, 1200 / 800, 1600 / 800)


class Feed(ABC):
    """One protocol's way of running the network."""

    protocol: str
    text: str  # what is done with an image
    note: str = ""  # what keeps the figures from being comparable with published ones

    @abstractmethod
    def sizes(self, height: int, width: int) -> list[Size]:
        """The sizes in which it shows the network an image of `height` x `width`."""

    @abstractmethod
    def find(self, image: Pixels, run: Run) -> Predictions:
        """Predictions for an image, uint8 [H, W, 3], BGR; `run` computes the outputs for one such input.

        Raises DetectionError if the outputs are not this model's, and what `run` raises.
        """


class Omz(Feed):
    """Rules 2 and 3 of `omz`."""

    protocol = omz.PROTOCOL

    def __init__(self, model: ModelSpec, size: Size) -> None:
        self._size, self._task = size, detection_task(model.name, model.task)
        self.text = f"stretched to {_text(size)}"
        published = model.image_input.shape[2:]
        if size != published:
            self.note = f"defined at {_text(published)}, run at {_text(size)}"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [self._size]

    def find(self, image: Pixels, run: Run) -> Predictions:
        (height, width), (new_height, new_width) = image.shape[:2], self._size
        scale_y, scale_x = new_height / height, new_width / width
        outputs = run(resize(image, self._size, scale_y, scale_x))
        return omz.decode(outputs, [(scale_x, scale_y)], self._task)[0]


class UpstreamScales(Feed):
    """Rule 7 of `wider`: upstream's detections at one scale, or at those of its pyramid together."""

    protocol = "wider"

    def __init__(self, model: ModelSpec, *, pyramid: bool) -> None:
        self._task, self._pyramid = detection_task(model.name, model.task), pyramid
        sides = PYRAMID_SIDES if pyramid else TEST_SIDES
        self.text = f"shorter side to {sides[0]}, longer at most {sides[1]}"
        if pyramid:
            self.text += f", times {', '.join(f'{factor:g}' for factor in PYRAMID)}"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [_scaled(height, width, scale) for scale in self._scales(height, width)]

    def find(self, image: Pixels, run: Run) -> Predictions:
        height, width = image.shape[:2]
        found = []
        for number, scale in enumerate(self._scales(height, width), start=1):
            size = _scaled(height, width, scale)
            task = self._task.without_coarsest() if number == len(PYRAMID) else self._task
            candidates = _candidates(run(resize(image, size, scale, scale)), size, task)
            found.append(replace(candidates, boxes=candidates.boxes / np.float32(scale)))
        return _predictions(self._task.select(Detections.join(found)))

    def _scales(self, height: int, width: int) -> list[float]:
        if not self._pyramid:
            return [upstream_scale(height, width, *TEST_SIDES)]
        base = upstream_scale(height, width, *PYRAMID_SIDES)
        return [base * factor for factor in PYRAMID]


class Fitted(Feed):
    """`wider` for a network of one size: as `sshtool detect` fits images into it."""

    protocol = "wider"

    def __init__(self, model: ModelSpec, size: Size, mode: Resize) -> None:
        self._size, self._mode = size, mode
        self._task, self._padding = detection_task(model.name, model.task), model.image.mean_pixel
        self.text = f"{mode.value} to {_text(size)}"
        self.note = f"run with {mode.value} to {_text(size)}, not at upstream's test scale"

    def sizes(self, height: int, width: int) -> list[Size]:
        return [self._size]

    def find(self, image: Pixels, run: Run) -> Predictions:
        pixels, placement = fit(image, *self._size, self._mode, self._padding)
        found = self._task.select(_candidates(run(pixels), self._size, self._task))
        return _predictions(placement.to_image(found))


def accepts(declaration: Declaration, size: Size) -> bool:
    """Whether an artifact takes images of that size."""
    return all(declared in (None, wanted) for declared, wanted in zip(declaration.input_shape[2:], size, strict=True))


def upstream_scale(height: int, width: int, shorter: int, longer: int) -> float:
    """The factor that makes the shorter side `shorter`, or the longer one `longer` where it would be longer still."""
    scale = shorter / min(height, width)
    return scale if round(scale * max(height, width)) <= longer else longer / max(height, width)


def resize(image: Pixels, size: Size, scale_y: float, scale_x: float) -> Pixels:
    """Bilinear between the nearest pixels, as OpenCV does it: uint8 [H, W, 3] at `size`.

    A pixel at k lies at (k + 0.5) / scale - 0.5 of the image. Nothing is averaged where an image becomes smaller.
    """
    if image.shape[:2] == size and scale_y == scale_x == 1:
        return image
    top, bottom, down = _neighbours(image.shape[0], size[0], scale_y)
    left, right, across = _neighbours(image.shape[1], size[1], scale_x)
    down, across = down[:, None, None], across[None, :, None]
    columns = np.arange(image.shape[1])
    if len(columns) > 2 * len(left):  # most of them take no part
        columns, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        left, right = np.split(places.reshape(-1), 2)
    resized = np.empty((*size, 3), np.uint8)
    step = max(1, _PART // len(columns))
    for start in range(0, size[0], step):
        part = slice(start, start + step)
        rows = image[np.ix_(top[part], columns)] * (1 - down[part]) + image[np.ix_(bottom[part], columns)] * down[part]
        resized[part] = np.rint(rows[:, left] * (1 - across) + rows[:, right] * across)
    return resized


def _neighbours(length: int, new_length: int, scale: float) -> tuple[Indices, Indices, Floats]:
    """For each new pixel the two old ones that it lies between, and how far it is from the first to the second."""
    places = np.clip((np.arange(new_length) + 0.5) / scale - 0.5, 0, length - 1)
    first, second, share = neighbours(places, length)
    return first, second, share.astype(np.float32)


def _scaled(height: int, width: int, scale: float) -> Size:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _candidates(outputs: Outputs, size: Size, task: DetectionTask) -> Detections:
    """The candidates of one image. NaN would disappear without a word: it is above no threshold."""
    found = task.candidates(outputs, size)[0]
    for name in task.outputs():
        if not np.isfinite(outputs[name]).all():
            raise DetectionError(f"{name} holds NaN or infinity; `sshtool verify` says whether the artifact is whole")
    return found


def _predictions(detections: Detections) -> Predictions:
    return from_corners(detections.boxes, detections.scores)


def _text(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width}x{height}"
