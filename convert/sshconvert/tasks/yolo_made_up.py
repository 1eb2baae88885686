"""Made-up tensors of heads of YOLOv3."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sshconvert.arrays import Doubles, Floats
from sshconvert.tasks.made_up import EPSILON, Candidates, Canvas
from sshconvert.tasks.yolo_heads import BOX, CLASSES, OBJECTNESS, YoloHead

# The largest error of the product of two sigmoids in units of float32's epsilon. A sigmoid of ONNX Runtime is off by up
# to 1.4 wherever it lies, as measured.
SCORE_UNITS: Final = 4.0


class YoloCanvas(Canvas):
    """The tensor of a head with one class. A box has its centre in its cell, and its score is computed."""

    is_free = False
    score_error = SCORE_UNITS * EPSILON

    def __init__(self, head: YoloHead, cells: tuple[int, int]) -> None:
        super().__init__(cells)
        self._head = head
        self.stride, self.centre = head.stride, 0.0
        self.anchors = np.array(head.anchors, np.float64)

    def blank(self, random: Any, least: float) -> dict[str, Floats]:
        shape = (len(self.anchors), CLASSES + 1, self.rows, self.columns)
        values = random.standard_normal(shape)
        scores = random.random_sample((len(self.anchors), self.rows, self.columns)) * least
        scores = np.minimum(scores, max(least - 2 * self.score_error, 0))
        values[:, OBJECTNESS], values[:, CLASSES] = _shares(scores, random.random_sample(scores.shape))
        return {self._head.output: values.reshape(-1, self.rows, self.columns).astype(np.float32)}

    def fill(self, tensors: dict[str, Floats], candidates: Candidates) -> None:
        rows, columns, anchors = candidates.rows, candidates.columns, candidates.anchors
        boxes = candidates.boxes
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / self.stride - np.stack([columns, rows], axis=1)
        sizes = (boxes[:, 2:] - boxes[:, :2]) / self.anchors[anchors]
        values = np.concatenate([_logit(np.clip(centres, 1e-3, 1 - 1e-3)), np.log(sizes)], axis=1)
        tensor = tensors[self._head.output].reshape(len(self.anchors), -1, self.rows, self.columns)
        for number, channel in enumerate(values.T[:BOX]):
            tensor[anchors, number, rows, columns] = channel
        scores = candidates.scores
        for number, channel in zip((OBJECTNESS, CLASSES), _shares(scores, np.full(len(scores), 0.5)), strict=True):
            tensor[anchors, number, rows, columns] = channel

    def grow(self, tensors: dict[str, Floats], place: tuple[int, int, int], logarithm: float) -> None:
        row, column, anchor = place
        tensor = tensors[self._head.output].reshape(len(self.anchors), -1, self.rows, self.columns)
        tensor[anchor, 2:4, row, column] = logarithm


def _shares(scores: Doubles, parts: Doubles) -> tuple[Doubles, Doubles]:
    """Return the logits of two factors of scores: a score to the power of each part, and of the rest."""
    least = np.maximum(scores, 1e-12)
    return _logit(least**parts), _logit(least ** (1 - parts))


def _logit(shares: Doubles) -> Doubles:
    limited = np.clip(shares, 1e-12, 1 - 1e-7)
    return np.asarray(np.log(limited) - np.log1p(-limited))
