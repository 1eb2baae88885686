"""Detections that rounding may change: interval suppression.

Every candidate has a score within an interval, and overlaps that may be off by a tolerance. Candidate j *may* suppress
candidate i if j's score may be the higher one and their overlap may reach the threshold. It *must* suppress i, if it
stays, where both hold for all values of the intervals. Then, by induction over the order of any one run:

- A candidate is *certain* if its score is surely above the threshold and every candidate that may suppress it is
  excluded. In each run, no detection suppresses it, so it stays.
- A candidate is *excluded* if a certain candidate must suppress it. That one stays in each run, so this one goes.
- All others are *open*. On equal scores, rounding decides which of two overlapping candidates stays, and both are open.

The least fixed point of the two rules needs as many rounds as the longest chain of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Flags
from sshconvert.boxes import overlaps
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import Tolerance, saturation

# More candidates are open without a look at their overlaps: the table of pairs has their square of entries.
MOST: Final = 4000
_ROWS: Final = 256  # of the table at a time
_ULPS: Final = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Suppression:
    """The thresholds of score and overlap, and the tolerance of an overlap."""

    score: float
    overlap: float
    overlap_tolerance: float
    last_pixel: int = 1


@dataclass(frozen=True)
class Certainty:
    """What is sure about the detections of an image: the numbers of candidates, and those that are open."""

    certain: int
    excluded: int
    undecided: Detections

    def chosen(self, expected: Detections, actual: Detections, *, overlap: float, corner: float) -> Detections:
        """Return the `expected` detections of an image as rounding chose them in another run.

        Of two open candidates that suppress each other, each run keeps one. Where the other run has an open candidate
        in place of an overlapping open detection, that candidate is expected.

        Args:
            expected: the detections of the exact result.
            actual: those of the other run.
            overlap: the overlap of two detections that are compared.
            corner: how far the corners of one candidate may be apart in two runs, in pixels.

        """
        table = _apart(expected, actual)
        alone = np.flatnonzero((table > corner).all(axis=1))
        others = actual[np.flatnonzero((table > corner).all(axis=0))]
        if not (len(alone) and len(others) and len(self.undecided)):
            return expected
        is_open = (_apart(expected[alone], self.undecided) <= corner).any(axis=1)
        apart = _apart(others, self.undecided)
        nearest, is_candidate = apart.argmin(axis=1), apart.min(axis=1) <= corner
        parts = [expected[np.array([index])] for index in range(len(expected))]
        for index in alone[is_open]:
            shared = np.where(is_candidate, overlaps(expected.boxes[[index]], others.boxes)[0], 0)
            other = int(shared.argmax())
            if shared[other] >= overlap:
                parts[index] = self.undecided[nearest[[other]]]
                is_candidate[other] = False
        return Detections.join(parts)


def _apart(detections: Detections, others: Detections) -> Array:
    """Return the largest distance of a corner's coordinate, [K, M]; infinite between different classes."""
    distances = np.abs(detections.boxes[:, None].astype(np.float64) - others.boxes[None]).max(axis=2)
    if detections.class_ids is not None and others.class_ids is not None:
        distances[detections.class_ids[:, None] != others.class_ids] = np.inf
    return np.asarray(distances)


def score_errors(scores: Array, tolerance: Tolerance) -> Array:
    """Return how far each probability [K] may be off.

    Where the tolerance of a tensor is the same for all elements, a probability's error still shrinks as that of its
    logit does. Eight units in the last place of 1 are left for the softmax itself.
    """
    p = scores.astype(np.float64)
    return np.asarray(tolerance.at(p) if tolerance.saturates else tolerance.at(p) * saturation(p) + _ULPS)


def decide(candidates: Detections, sure: Flags, errors: Array, suppression: Suppression) -> tuple[Flags, Flags]:
    """Return which candidates [K] are certain, and which are excluded. The others are open.

    Args:
        candidates: those that may be above the score threshold, in any order.
        sure: False for a candidate that a limit on their number may leave out.
        errors: how far each score may be off.
        suppression: the rule. Only candidates of one class suppress each other.

    """
    if len(candidates) > MOST:
        return np.zeros(len(candidates), bool), np.zeros(len(candidates), bool)
    low, high = candidates.scores - errors, candidates.scores + errors
    may, must = _tables(candidates, low, high, suppression)
    valid = sure & (low >= suppression.score)
    certain: Flags = np.zeros(len(candidates), bool)
    excluded: Flags = certain
    while True:
        gone = np.asarray(must[:, certain].any(axis=1))
        kept = np.asarray(valid & ~may[:, ~gone].any(axis=1))
        if np.array_equal(gone, excluded) and np.array_equal(kept, certain):
            return certain, excluded
        certain, excluded = kept, gone


def _tables(candidates: Detections, low: Array, high: Array, suppression: Suppression) -> tuple[Flags, Flags]:
    """Return who may suppress each candidate, and who must if it stays: [K, K], a row for each candidate."""
    count, limit, tolerance = len(candidates), suppression.overlap, suppression.overlap_tolerance
    may, must = np.zeros((count, count), bool), np.zeros((count, count), bool)
    for first in range(0, count, _ROWS):
        rows = slice(first, first + _ROWS)
        table = overlaps(candidates.boxes[rows], candidates.boxes, suppression.last_pixel)
        if candidates.class_ids is not None:
            table[candidates.class_ids[rows, None] != candidates.class_ids] = -1
        may[rows] = (high[None] >= low[rows, None]) & (table >= limit - tolerance)
        must[rows] = (low[None] > high[rows, None]) & (table >= limit + tolerance)
    np.fill_diagonal(may, False)
    return may, must
