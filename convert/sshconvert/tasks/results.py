"""Results of tasks, with named fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags, Indices
from sshconvert.errors import DetectionError

# A detection in a report: x1, y1, x2, y2 and score, then x and y of each landmark.
Box = tuple[float, ...]

_SCORE: Final = 4


def score_of(box: Box) -> float:
    """Return the score of a box of a report."""
    return box[_SCORE]


def landmarks_of(box: Box) -> tuple[tuple[float, float], ...]:
    """Return x and y of each landmark of a box of a report."""
    return tuple(zip(box[_SCORE + 1 :: 2], box[_SCORE + 2 :: 2], strict=True))


@dataclass(frozen=True)
class Detections:
    """The objects in one image.

    Attributes:
        boxes: float [K, 4]: x1, y1, x2, y2 in pixels, with the corner pixels included or not, as the task says
            (`DetectionTask.last_pixel`).
        scores: float [K], 0-1.
        class_ids: int [K], or None if the task has one class.
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

    def __getitem__(self, selection: slice | Indices | Flags) -> Detections:
        """Return the detections of a slice, of indices or of a mask."""
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return Detections(**{name: column[selection] for name, column in columns.items() if column is not None})

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """Concatenate one or more parts with the same fields."""
        columns: dict[str, Any] = {item.name: [getattr(part, item.name) for part in parts] for item in fields(cls)}
        return cls(**{name: np.concatenate(column) for name, column in columns.items() if column[0] is not None})

    def moved(self, move: Callable[[Doubles], Doubles]) -> Detections:
        """Return the detections with all points moved. `move` maps x and y, float64 [..., 2]."""
        boxes = move(self.boxes.astype(np.float64).reshape(-1, 2, 2)).reshape(-1, 4)
        landmarks = None if self.landmarks is None else move(self.landmarks.astype(np.float64))
        return replace(self, boxes=boxes, landmarks=landmarks)

    def as_float32(self) -> Detections:
        """Return the detections with points in single precision."""
        landmarks = None if self.landmarks is None else self.landmarks.astype(np.float32)
        return replace(self, boxes=self.boxes.astype(np.float32), landmarks=landmarks)

    def clipped(self, image_size: tuple[int, ...], last_pixel: int = 1) -> Detections:
        """Return the detections with boxes clipped to an image of (height, width), up to W - `last_pixel`."""
        height, width = image_size
        limits = np.array([width, height, width, height], self.boxes.dtype) - self.boxes.dtype.type(last_pixel)
        return replace(self, boxes=np.clip(self.boxes, 0, limits))

    def from_score(self, least: float) -> Detections:
        """Return the detections whose score is at least `least`."""
        return self[self.scores >= least]

    def best_first(self) -> Detections:
        """Return the detections by score, highest first. Equal scores keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def attribute_rows(self, names: Sequence[str]) -> tuple[dict[str, float], ...]:
        """Return the attributes of each detection by name; the task gives the names of the columns."""
        if self.attributes is None:
            return tuple({} for _ in range(len(self)))
        return tuple(dict(zip(names, row, strict=True)) for row in self.attributes.tolist())

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the label of each detection; the task gives the names of the classes. "" if it has one class."""
        return ("",) * len(self) if self.class_ids is None else tuple(names[number] for number in self.class_ids)

    def rows(self, digits: int | None = 4) -> tuple[Box, ...]:
        """Return a `Box` for each detection, rounded; None keeps all digits."""
        points: list[Any] = [()] * len(self)
        if self.landmarks is not None:
            points = self.landmarks.reshape(len(self), 2 * self.landmarks.shape[1]).tolist()
        columns = zip(self.boxes.tolist(), self.scores.tolist(), points, strict=True)
        rows = ((*box, score, *around) for box, score, around in columns)
        return tuple(row if digits is None else tuple(round(value, digits) for value in row) for row in rows)


@dataclass(frozen=True)
class Vectors:
    """The embedding of one image.

    Attributes:
        values: float64 [D], of length 1, or zeros for an output of zeros.
        length: The Euclidean length of the network's own vector.

    """

    values: Doubles
    length: float

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, output: Array) -> Vectors:
        """Return the unit vector of an output [D]."""
        values = output.astype(np.float64)
        length = float(np.linalg.norm(values))
        return cls(values / length if length else values, length)

    def cosine(self, other: Vectors) -> float:
        """Return the cosine of the angle to another vector, -1 to 1; 0 if one is zero."""
        return float(np.clip(self.values @ other.values, -1, 1))

    def distance(self, other: Vectors) -> float:
        """Return the Euclidean distance to another vector, 0-2."""
        return float(np.linalg.norm(self.values - other.values))


@dataclass(frozen=True)
class Scores:
    """The scores of the classes for one image.

    Attributes:
        values: float64 [classes], probabilities.
        raw: The network's own output, float64 [classes]: probabilities or logits.
        labels: A name for each class, or ().

    """

    values: Doubles
    raw: Doubles
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, output: Array, labels: tuple[str, ...], *, are_probabilities: bool) -> Scores:
        """Return the scores of an output [classes]. Raises DetectionError if labels or values do not fit."""
        raw = output.astype(np.float64)
        if labels and len(labels) != len(raw):
            raise DetectionError(f"the output has {len(raw)} classes, and there are {len(labels)} labels")
        if are_probabilities:
            if raw.min(initial=0) < 0:
                raise DetectionError("the output holds negative numbers, which are no probabilities")
            return cls(raw, raw, labels)
        powers = np.exp(raw - raw.max())
        return cls(powers / powers.sum(), raw, labels)

    def best(self, count: int) -> list[int]:
        """Return the numbers of the best classes, best first. Equal scores keep the order of the classes."""
        order: list[int] = np.argsort(-self.raw, kind="stable")[:count].tolist()
        return order

    def label(self, number: int) -> str:
        """Return the name of a class: its label, or its number."""
        return self.labels[number] if self.labels else f"class {number}"
