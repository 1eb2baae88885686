"""Comparison of the detections that two runs end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sshconvert.boxes import overlaps
from sshtool.parity.tolerances import Tolerance

Faces = npt.NDArray[np.float32]  # [K, 5]: x1, y1, x2, y2, score
Box = tuple[float, ...]


@dataclass(frozen=True)
class DetectionComparison:
    """Which detections of an image two runs share.

    `near_threshold` are those that only one side has, but whose score, or overlap with a better box of the other
    side, lies so close to the threshold that the tolerance alone decides; they count neither as missing nor as extra.
    `expected` is how many the original has. `order_changes` are matched detections that another matched one has
    overtaken. Corners are in pixels. `score_share` is the largest difference of a score in units of what is allowed
    there, `score_sums` the sum of the matched scores, the original's and the other's. `problem` says why there is
    nothing to compare.
    """

    expected: int = 0
    matched: int = 0
    missing: tuple[Box, ...] = ()
    extra: tuple[Box, ...] = ()
    near_threshold: tuple[Box, ...] = ()
    largest_corner: float = 0.0
    largest_score: float = 0.0
    score_share: float = 0.0
    score_sums: tuple[float, float] = (0.0, 0.0)
    order_changes: int = 0
    found: tuple[Box, ...] = ()
    problem: str = ""

    @property
    def differing(self) -> int:
        """Detections that only one side has."""
        return len(self.missing) + len(self.extra)


@dataclass(frozen=True)
class Thresholds:
    """Where detections come and go: from `score` on they are kept, from `overlap` (IoU) with a better one on they are
    suppressed. What lies within the tolerance of either may go both ways.
    """

    score: float
    score_tolerance: float
    overlap: float
    overlap_tolerance: float

    def near(self, alone: Faces, others: Faces) -> npt.NDArray[np.bool_]:
        """Which of the detections that have no partner among the `others` the tolerance alone decides on."""
        better = others[None, :, 4] >= alone[:, None, 4] - self.score_tolerance
        largest = np.where(better, overlaps(alone, others), 0).max(axis=1, initial=0)
        near_score = np.abs(alone[:, 4] - self.score) < self.score_tolerance
        return np.asarray(near_score | (np.abs(largest - self.overlap) <= self.overlap_tolerance))


def compare_detections(
    expected: Faces, found: Faces, *, overlap: float, scores: Tolerance, thresholds: Thresholds
) -> DetectionComparison:
    """Pair detections one to one, those that overlap most first, down to `overlap`; sort out what stays alone.

    `scores` is what the scores of a pair may differ by.
    """
    pairs = match(expected, found, overlap)
    mine, yours = pairs[:, 0], pairs[:, 1]
    distance = np.abs(expected[mine] - found[yours])
    allowed = np.maximum(scores.at(expected[mine, 4]), np.finfo(np.float32).tiny)  # the user may allow nothing
    lost, gained = np.delete(expected, mine, axis=0), np.delete(found, yours, axis=0)
    near_lost, near_gained = thresholds.near(lost, found), thresholds.near(gained, expected)
    return DetectionComparison(
        expected=len(expected),
        matched=len(pairs),
        missing=boxes(lost[~near_lost]),
        extra=boxes(gained[~near_gained]),
        near_threshold=boxes(lost[near_lost]) + boxes(gained[near_gained]),
        largest_corner=float(distance[:, :4].max(initial=0)),
        largest_score=float(distance[:, 4].max(initial=0)),
        score_share=float((distance[:, 4] / allowed).max(initial=0)),
        score_sums=(float(expected[mine, 4].sum()), float(found[yours, 4].sum())),
        order_changes=_overtaken(yours[np.argsort(mine)]),
        found=boxes(found),
    )


def match(expected: Faces, found: Faces, overlap: float) -> npt.NDArray[np.intp]:
    """Numbers of the detections that belong together: [M, 2], expected and found."""
    table = overlaps(expected, found)
    rows, columns = np.nonzero(table >= overlap)
    pairs: list[tuple[int, int]] = []
    left, right = set(range(len(expected))), set(range(len(found)))
    for number in np.argsort(-table[rows, columns], kind="stable"):
        row, column = int(rows[number]), int(columns[number])
        if row in left and column in right:
            left.remove(row)
            right.remove(column)
            pairs.append((row, column))
    return np.array(pairs, np.intp).reshape(-1, 2)


def boxes(faces: Faces) -> tuple[Box, ...]:
    """Detections as plain numbers, rounded to what a report needs: a ten-thousandth of a pixel."""
    return tuple(tuple(round(value, 4) for value in face) for face in faces.tolist())


def _overtaken(ranks: Sequence[int] | npt.NDArray[np.intp]) -> int:
    """How many ranks are lower than one before them."""
    highest = np.maximum.accumulate(np.asarray(ranks, np.intp)) if len(ranks) else np.zeros(0, np.intp)
    return int(np.sum(np.asarray(ranks) < highest))
