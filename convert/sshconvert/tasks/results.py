"""What tasks decode outputs to: results with named fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags, Indices

# x1, y1, x2, y2 and score of a detection, as reports write it.
Box = tuple[float, ...]


def score_of(box: Box) -> float:
    """The score of a box of a report."""
    *_, score = box
    return score


@dataclass(frozen=True)
class Detections:
    """The objects in one image.

    Attributes:
        boxes: float [K, 4]: x1, y1, x2, y2 in pixels, with the corner pixels included.
        scores: float [K], 0-1.
        class_ids: int [K], or None where the task has one class.
        landmarks: float [K, P, 2]: x and y of points in pixels, or None.
        attributes: float [K, A], 0-1, or None.

    """

    boxes: Array
    scores: Array
    class_ids: Indices | None = None
    landmarks: Array | None = None
    attributes: Array | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: slice | Indices | Flags) -> Detections:
        """The detections of a slice, of indices or of a mask."""
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return Detections(**{name: column[chosen] for name, column in columns.items() if column is not None})

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """All detections of one or more parts, which have the same fields."""
        columns: dict[str, Any] = {item.name: [getattr(part, item.name) for part in parts] for item in fields(cls)}
        known = {name: np.concatenate(column) for name, column in columns.items() if column[0] is not None}
        return cls(**known)

    def moved(self, move: Callable[[Doubles], Doubles]) -> Detections:
        """The detections with all points moved: `move` gets x and y, float64 [..., 2]. The result is float64."""
        boxes = move(self.boxes.astype(np.float64).reshape(-1, 2, 2)).reshape(-1, 4)
        landmarks = None if self.landmarks is None else move(self.landmarks.astype(np.float64))
        return replace(self, boxes=boxes, landmarks=landmarks)

    def as_float32(self) -> Detections:
        """The detections with points in single precision."""
        landmarks = None if self.landmarks is None else self.landmarks.astype(np.float32)
        return replace(self, boxes=self.boxes.astype(np.float32), landmarks=landmarks)

    def clipped(self, image_size: tuple[int, int]) -> Detections:
        """The detections with corners outside an image of (height, width) moved to its border pixels."""
        height, width = image_size
        limits = np.array([width - 1, height - 1, width - 1, height - 1], self.boxes.dtype)
        return replace(self, boxes=np.clip(self.boxes, 0, limits))

    def from_score(self, least: float) -> Detections:
        """The detections whose score is at least `least`."""
        return self[self.scores >= least]

    def best_first(self) -> Detections:
        """The detections by score, highest first; equal ones keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def rows(self, digits: int | None = 4) -> tuple[Box, ...]:
        """Each detection as plain numbers, by default rounded to a ten-thousandth; None keeps every digit."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), strict=True)
        numbers = ((*box, score) for box, score in rows)
        return tuple(row if digits is None else tuple(round(value, digits) for value in row) for row in numbers)
