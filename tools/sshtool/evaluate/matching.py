"""Matches the predictions of an image with its faces, for both protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Flags, Indices
from sshconvert.boxes import overlaps
from sshconvert.errors import EvaluationError
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, NEITHER

# The IoU from which on a prediction is on a face, in both protocols.
ON_FACE: Final = 0.5

# The face number of a prediction without a face.
NOWHERE: Final = -1

# The number of pairs compared at once. It bounds the memory.
_LARGEST_TABLE: Final = 1 << 18
# The number of pairs compared for one image, which takes about a minute: 10,000 predictions times 10,000 faces.
MOST_OVERLAPS: Final = 1 << 27

# Boxes of an IoU of `ON_FACE` overlap, and one is at most twice as wide and as high as the other. Because protocols
# round and add 1, the cuts allow a distance of `_APART` pixels, and sizes up to `_LARGER` times plus `_LARGER_BY`.
_APART: Final = 3.0
_LARGER: Final = 6.0
_LARGER_BY: Final = 8.0
# The largest part of the pairs that a worthwhile cut leaves.
_WORTH: Final = 0.8


def corners(boxes: Doubles) -> Doubles:
    """Convert x, y, w, h to x1, y1, x2, y2, both [K, 4], by x2 = x + w and y2 = y + h."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def best_face(
    predictions: Doubles, faces: Doubles, measure: Callable[[Doubles, Doubles], Doubles] = overlaps
) -> Indices:
    """The number of the face that each prediction overlaps most, the first of equals.

    `predictions` [K, 4] and `faces` [F, 4] are corners. A prediction gets `NOWHERE` if its largest overlap, by
    `measure`, is less than `ON_FACE`. Recursive cuts leave only pairs of similar size and place to compare.

    Raises EvaluationError if more than `MOST_OVERLAPS` pairs are that close.
    """
    matching = _Matching(predictions, faces, measure)
    matching.match(np.arange(len(predictions)), np.arange(len(faces)))
    return matching.best


class _Matching:
    """The best face of each prediction so far, and their overlap."""

    def __init__(self, predictions: Doubles, faces: Doubles, measure: Callable[[Doubles, Doubles], Doubles]) -> None:
        self._predictions, self._faces, self._measure = predictions, faces, measure
        self.best = np.full(len(predictions), NOWHERE, np.intp)
        self._most = np.full(len(predictions), ON_FACE)
        self._left = MOST_OVERLAPS

    def match(self, rows: Indices, columns: Indices) -> None:
        """Match the predictions of numbers `rows` with the faces of numbers `columns`, both ascending."""
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
                f"than {MOST_OVERLAPS} pairs would have to be compared; suppress overlapping predictions"
            )
        step = max(1, _LARGEST_TABLE // max(1, len(columns)))
        for start in range(0, len(rows) if len(columns) else 0, step):
            self._compare(rows[start : start + step], columns)

    def _compare(self, rows: Indices, columns: Indices) -> None:
        table = self._measure(self._predictions[rows], self._faces[columns])
        number = np.argmax(table, axis=1)
        overlap, most, face = table[np.arange(len(rows)), number], self._most[rows], columns[number]
        # `best` is NOWHERE or a face from another cut.
        better = (overlap > most) | ((overlap == most) & ((self.best[rows] == NOWHERE) | (face < self.best[rows])))
        self._most[rows[better]], self.best[rows[better]] = overlap[better], face[better]

    def _cut(self, rows: Indices, columns: Indices, axis: int) -> list[tuple[Indices, Indices]]:
        """Two halves of the faces by place (`axis` 0 or 1) or size (2 or 3), each with the predictions near it."""
        first, last = self._ranges(self._predictions[rows], axis, _APART)
        face_first, face_last = self._ranges(self._faces[columns], axis, 0.0)
        middle = np.median(face_first + face_last)
        halves = face_first + face_last <= middle
        parts = []
        for half in (halves, ~halves):
            if half.any():
                near = (first <= face_last[half].max()) & (last >= face_first[half].min())
                parts.append((rows[near], columns[half]))
        return parts

    def _ranges(self, boxes: Doubles, axis: int, apart: float) -> tuple[Doubles, Doubles]:
        """The range of each box by place or size. For predictions, `apart` > 0 widens it to that of matching faces."""
        if axis < 2:
            return boxes[:, axis] - apart, boxes[:, axis + 2] + apart
        size = boxes[:, axis] - boxes[:, axis - 2]
        if not apart:
            return size, size
        return (size - _LARGER_BY) / _LARGER, size * _LARGER + _LARGER_BY


def _pairs(parts: list[tuple[Indices, Indices]]) -> int:
    return sum(len(rows) * len(columns) for rows, columns in parts)


def first_on_its_face(matches: Indices, scores: Doubles) -> Flags:
    """Whether each match [K] is the first on its face by descending score, equal scores in their order."""
    order = np.argsort(-scores, kind="stable")
    first = np.zeros(len(matches), bool)
    first[order[np.unique(matches[order], return_index=True)[1]]] = True
    return np.asarray(first & (matches != NOWHERE))


def letters(false: Flags, neither: Flags, first: Flags) -> str:
    """The outcome letters of predictions. One that is not `false` or `neither` is a hit if `first`, or a duplicate."""
    return "".join(np.select([false, neither, first], [FALSE, NEITHER, HIT], DUPLICATE).tolist())
