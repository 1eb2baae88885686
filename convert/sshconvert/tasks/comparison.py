"""Comparison of the detections of two runs: what they share, and what only one of them has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sshconvert.arrays import Flags, Indices
from sshconvert.boxes import overlaps
from sshconvert.tasks.results import Box, Detections
from sshconvert.tasks.tolerances import Tolerance


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
    suppressed. The tolerance alone decides about a detection within it.
    """

    score: float
    score_tolerance: float
    overlap: float
    overlap_tolerance: float

    def near(self, alone: Detections, others: Detections) -> Flags:
        """Which of the detections without a partner among the `others` the tolerance alone decides about."""
        better = others.scores[None] >= alone.scores[:, None] - self.score_tolerance
        largest = np.where(better, overlaps(alone.boxes, others.boxes), 0).max(axis=1, initial=0)
        near_score = np.abs(alone.scores - self.score) < self.score_tolerance
        return np.asarray(near_score | (np.abs(largest - self.overlap) <= self.overlap_tolerance))


def compare_detections(
    expected: Detections, found: Detections, *, overlap: float, scores: Tolerance, thresholds: Thresholds
) -> DetectionComparison:
    """Pair detections one to one, those that overlap most first, down to `overlap`; sort out what stays alone.

    `scores` is what the scores of a pair may differ by.
    """
    pairs = match(expected, found, overlap)
    mine, yours = pairs[:, 0], pairs[:, 1]
    original, other = expected[mine], found[yours]
    corners = np.abs(original.boxes - other.boxes)
    distance = np.abs(original.scores - other.scores)
    allowed = np.maximum(scores.at(original.scores), np.finfo(np.float32).tiny)  # the user may allow nothing
    lost, gained = (
        side[np.setdiff1d(np.arange(len(side)), paired)] for side, paired in ((expected, mine), (found, yours))
    )
    near_lost, near_gained = thresholds.near(lost, found), thresholds.near(gained, expected)
    return DetectionComparison(
        expected=len(expected),
        matched=len(pairs),
        missing=lost[~near_lost].rows(),
        extra=gained[~near_gained].rows(),
        near_threshold=lost[near_lost].rows() + gained[near_gained].rows(),
        largest_corner=float(corners.max(initial=0)),
        largest_score=float(distance.max(initial=0)),
        score_share=float((distance / allowed).max(initial=0)),
        score_sums=(float(original.scores.sum()), float(other.scores.sum())),
        order_changes=_overtaken(yours[np.argsort(mine)]),
        found=found.rows(),
    )


def match(expected: Detections, found: Detections, overlap: float) -> Indices:
    """Indices of the detections that belong together, [M, 2]: of one class, and with at least that overlap."""
    table = overlaps(expected.boxes, found.boxes)
    if expected.class_ids is not None and found.class_ids is not None:
        table = np.where(expected.class_ids[:, None] == found.class_ids, table, -1)
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


def _overtaken(ranks: Sequence[int] | Indices) -> int:
    """How many ranks are lower than one before them."""
    highest = np.maximum.accumulate(np.asarray(ranks, np.intp)) if len(ranks) else np.zeros(0, np.intp)
    return int(np.sum(np.asarray(ranks) < highest))
