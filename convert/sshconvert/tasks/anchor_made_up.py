"""Made-up tensors of heads with anchors."""

from __future__ import annotations

from typing import Any

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.tasks.anchors import PLAIN, AnchorHead
from sshconvert.tasks.made_up import Candidates, Canvas


class AnchorCanvas(Canvas):
    """The tensors of a head with anchors. Its scores are selected, and its boxes may be anywhere."""

    is_free = True
    score_error = 0.0

    def __init__(self, head: AnchorHead, cells: tuple[int, int]) -> None:
        super().__init__(cells)
        self._head = head
        self.stride, self.centre = head.stride, head.centre
        self.anchors = np.array(head.sizes, np.float64)
        self.is_exact = head.box_std == PLAIN and bool((np.frexp(self.anchors[0])[0] == 0.5).all())

    def blank(self, random: Any, least: float) -> dict[str, Floats]:
        head, count = self._head, len(self.anchors)
        shape = (self.rows, self.columns)
        tensors = {
            name: random.standard_normal((channels * count, *shape)).astype(np.float32)
            for name, channels in head.tensors
        }
        below = np.nextafter(np.float32(least), np.float32(0))
        scores = random.random_sample((2 * count, *shape))
        scores[count:] *= least
        tensors[head.scores] = scores.astype(np.float32)
        faces = tensors[head.scores][count:]
        np.minimum(faces, below, out=faces)
        if head.attributes:
            values = random.random_sample(tensors[head.attributes.tensor].shape)
            tensors[head.attributes.tensor] = values.astype(np.float32)
        return tensors

    def fill(self, tensors: dict[str, Floats], candidates: Candidates) -> None:
        head, (rows, columns, anchors) = self._head, (candidates.rows, candidates.columns, candidates.anchors)
        tensors[head.scores][len(self.anchors) + anchors, rows, columns] = candidates.scores
        boxes, sizes = candidates.boxes, self.anchors[anchors]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        extents = boxes[:, 2:] - boxes[:, :2] + 1
        move = (centres - self.middle(rows, columns)) / sizes
        deltas = np.concatenate([move, np.log(extents / sizes)], axis=1) / np.array(head.box_std)
        for number, values in enumerate(deltas.T):
            tensors[head.boxes][4 * anchors + number, rows, columns] = values

    def grow(self, tensors: dict[str, Floats], place: tuple[int, int, int], logarithm: float) -> None:
        row, column, anchor = place
        for number in (2, 3):
            tensors[self._head.boxes][4 * anchor + number, row, column] = logarithm / self._head.box_std[number]
