"""What both protocols share in holding an image's predictions to its faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Flags, Indices
from sshconvert.boxes import overlaps
from sshconvert.errors import EvaluationError
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, NEITHER

# A prediction is on a face from this overlap on, in both protocols.
ON_FACE: Final = 0.5

# The number of no face.
NOWHERE: Final = -1

# Overlaps computed at once: bounds memory, whatever the number of predictions.
_LARGEST_TABLE: Final = 1 << 18
# Overlaps computed for one image: a minute's work. Without any index it is enough for 10,000 predictions and faces.
MOST_OVERLAPS: Final = 1 << 27

# How far two boxes may lie apart, in pixels, and how much larger one may be, so that rounding cannot put them on each
# other. Exactly, they would have to overlap, and be at most twice as wide and as high.
_APART: Final = 3.0
_LARGER: Final = 6.0
_LARGER_BY: Final = 8.0
# A cut that saves less is not worth it.
_WORTH: Final = 0.8


def corners(boxes: Doubles) -> Doubles:
    """From x, y, w, h to x1, y1, x2, y2 by x2 = x + w and y2 = y + h, [K, 4] both."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def best_face(
    predictions: Doubles, faces: Doubles, measure: Callable[[Doubles, Doubles], Doubles] = overlaps
) -> Indices:
    """For each of `predictions` [K, 4] the number of the face [F, 4] that it overlaps most, the first of equals.

    `NOWHERE` if that overlap, by `measure`, is less than `ON_FACE`. Boxes are corners. Only boxes of similar sizes that
    lie close together are compared, so that the time grows with the faces around a prediction.

    Raises EvaluationError if more than `MOST_OVERLAPS` pairs are that close.
    """
    index = _Matching(predictions, faces, measure)
    index.match(np.arange(len(predictions)), np.arange(len(faces)))
    return index.best


class _Matching:
    """The best face of each prediction so far, and how much they overlap."""

    def __init__(self, predictions: Doubles, faces: Doubles, measure: Callable[[Doubles, Doubles], Doubles]) -> None:
        self._predictions, self._faces, self._measure = predictions, faces, measure
        self.best = np.full(len(predictions), NOWHERE, np.intp)
        self._most = np.full(len(predictions), ON_FACE)
        self._left = MOST_OVERLAPS

    def match(self, rows: Indices, columns: Indices) -> None:
        """Hold predictions of these numbers to faces of those, both ascending."""
        pairs = len(rows) * len(columns)
        if pairs > _LARGEST_TABLE:
            cut = min((self._cut(rows, columns, axis) for axis in range(4)), key=_pairs)
            if _pairs(cut) < _WORTH * pairs:
                for part in cut:
                    self.match(*part)
                return
        self._left -= pairs
        if self._left < 0:
            raise EvaluationError(
                f"{len(self._predictions)} predictions and {len(self._faces)} faces lie so close together that more "
                f"than {MOST_OVERLAPS} pairs would have to be compared; suppress what overlaps"
            )
        step = max(1, _LARGEST_TABLE // max(1, len(columns)))
        for start in range(0, len(rows) if len(columns) else 0, step):
            self._compare(rows[start : start + step], columns)

    def _compare(self, rows: Indices, columns: Indices) -> None:
        table = self._measure(self._predictions[rows], self._faces[columns])
        number = np.argmax(table, axis=1)
        found, most, face = table[np.arange(len(rows)), number], self._most[rows], columns[number]
        # `best` is NOWHERE, -1, or a face that another part has held it to.
        better = (found > most) | ((found == most) & ((self.best[rows] == NOWHERE) | (face < self.best[rows])))
        self._most[rows[better]], self.best[rows[better]] = found[better], face[better]

    def _cut(self, rows: Indices, columns: Indices, axis: int) -> list[tuple[Indices, Indices]]:
        """Two halves of the faces, by place (`axis` 0 or 1) or by size (2 or 3), each with all that may be on it."""
        low, high = self._ranges(self._predictions[rows], axis, _APART), self._ranges(self._faces[columns], axis, 0.0)
        middle = np.median(high[0] + high[1])
        halves = high[0] + high[1] <= middle
        parts = []
        for half in (halves, ~halves):
            if half.any():
                near = (low[0] <= high[1][half].max()) & (low[1] >= high[0][half].min())
                parts.append((rows[near], columns[half]))
        return parts

    def _ranges(self, boxes: Doubles, axis: int, apart: float) -> tuple[Doubles, Doubles]:
        """From where to where each box lies, or may be on another; by size, `apart` says whether it is a prediction."""
        if axis < 2:
            return boxes[:, axis] - apart, boxes[:, axis + 2] + apart
        size = boxes[:, axis] - boxes[:, axis - 2]
        if not apart:
            return size, size
        return (size - _LARGER_BY) / _LARGER, size * _LARGER + _LARGER_BY


def _pairs(parts: list[tuple[Indices, Indices]]) -> int:
    return sum(len(rows) * len(columns) for rows, columns in parts)


def first_on_its_face(matches: Indices, scores: Doubles) -> Flags:
    """For each of `matches` [K], whether no prediction of a higher score, or an equal one before it, has its face."""
    order = np.argsort(-scores, kind="stable")
    first = np.zeros(len(matches), bool)
    first[order[np.unique(matches[order], return_index=True)[1]]] = True
    return np.asarray(first & (matches != NOWHERE))


def letters(false: Flags, neither: Flags, first: Flags) -> str:
    """Outcomes of predictions, as `records` writes them. What is not false nor neither is a hit or a duplicate."""
    return "".join(np.select([false, neither, first], [FALSE, NEITHER, HIT], DUPLICATE).tolist())
