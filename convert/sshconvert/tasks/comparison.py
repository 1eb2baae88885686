"""Comparison of the results of two runs, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from sshconvert.arrays import Array, Flags, Indices
from sshconvert.boxes import overlaps
from sshconvert.tasks.certainty import Certainty
from sshconvert.tasks.results import Box, Detections, Scores, Vectors
from sshconvert.tasks.tolerances import Tolerance


@dataclass(frozen=True)
class DetectionComparison:
    """The detections of an image that two runs share, and those that only one run has.

    Attributes:
        expected: The number of the original's detections.
        near_threshold: Detections of one side whose score, or overlap with a better box of the other side, is within
            the tolerance of a threshold. They count neither as missing nor as extra.
        open: Detections of one side that rounding decides (`sshconvert.tasks.certainty`). They count neither as missing
            nor as extra.
        certain: The number of the original's candidates that no rounding removes; None if it is not determined.
        excluded: The number of those that no rounding keeps.
        undecided: The number of all others.
        largest_corner: The largest distance of a corner, in pixels.
        score_share: The largest difference of a score over its tolerance.
        landmarks: The number of compared landmarks.
        attributes: The number of compared attributes.
        largest_landmark: The largest distance of a coordinate of a landmark, in pixels.
        largest_attribute: The largest difference of an attribute.
        attribute_share: The largest difference of an attribute over its tolerance.
        score_sums: The sums of the matched scores of the original and of the other run.
        order_changes: The number of matched detections that another one has overtaken.
        found: All detections of the other run.
        problem: Why there is no comparison.

    """

    expected: int = 0
    matched: int = 0
    missing: tuple[Box, ...] = ()
    extra: tuple[Box, ...] = ()
    near_threshold: tuple[Box, ...] = ()
    open: tuple[Box, ...] = ()
    certain: int | None = None
    excluded: int = 0
    undecided: int = 0
    largest_corner: float = 0.0
    largest_score: float = 0.0
    score_share: float = 0.0
    landmarks: int = 0
    attributes: int = 0
    largest_landmark: float = 0.0
    largest_attribute: float = 0.0
    attribute_share: float = 0.0
    score_sums: tuple[float, float] = (0.0, 0.0)
    order_changes: int = 0
    found: tuple[Box, ...] = ()
    problem: str = ""

    def without(self, certainty: Certainty, overlap: float, *, strict: bool = True) -> DetectionComparison:
        """Return the comparison with the unmatched detections that overlap an undecided one so much as `open`.

        If `strict`, what lies near a threshold and is not open is missing or extra: no rounding decides it.
        """
        undecided = certainty.undecided

        def split(rows: tuple[Box, ...]) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
            boxes = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
            is_open = overlaps(boxes, undecided.boxes).max(axis=1, initial=0) >= overlap
            decided, undecided_rows = (tuple(compress(rows, flags)) for flags in (~is_open, is_open))
            return decided, undecided_rows

        (missing, first), (extra, second), (near, third) = map(split, (self.missing, self.extra, self.near_threshold))
        if strict:
            is_theirs = [row in self.found for row in near]
            missing += tuple(row for row, theirs in zip(near, is_theirs, strict=True) if not theirs)
            extra += tuple(compress(near, is_theirs))
            near = ()
        return replace(
            self,
            missing=missing,
            extra=extra,
            near_threshold=near,
            open=first + second + third,
            certain=certainty.certain,
            excluded=certainty.excluded,
            undecided=len(undecided),
        )

    @property
    def differing(self) -> int:
        """The number of detections that only one side has."""
        return len(self.missing) + len(self.extra)


@dataclass(frozen=True)
class Thresholds:
    """The task's thresholds, and how close to them a detection may go either way.

    `overlap` is the intersection over union, of boxes that include their corner pixels if `last_pixel` is 1.
    """

    score: float
    score_tolerance: float
    overlap: float
    overlap_tolerance: float
    last_pixel: int = 1

    def near(self, alone: Detections, others: Detections) -> Flags:
        """Return which of the unmatched detections `alone` lie within the tolerance of a threshold."""
        better = others.scores[None] >= alone.scores[:, None] - self.score_tolerance
        largest = np.where(better, overlaps(alone.boxes, others.boxes, self.last_pixel), 0).max(axis=1, initial=0)
        near_score = np.abs(alone.scores - self.score) < self.score_tolerance
        return np.asarray(near_score | (np.abs(largest - self.overlap) <= self.overlap_tolerance))


def compare_detections(
    expected: Detections,
    actual: Detections,
    *,
    overlap: float,
    scores: Tolerance,
    thresholds: Thresholds,
    attributes: Tolerance = Tolerance(0, 0),  # noqa: B008  # frozen
) -> DetectionComparison:
    """Match detections one to one and classify the unmatched ones.

    Pairs overlap by at least `overlap`. `scores` and `attributes` are the tolerances of a pair. Both sides have the
    same landmarks and attributes.
    """
    pairs = match(expected, actual, overlap)
    rows, columns = pairs[:, 0], pairs[:, 1]
    original, other = expected[rows], actual[columns]
    corners = np.abs(original.boxes - other.boxes)
    largest_score, score_share = _difference(original.scores, other.scores, scores)
    points = _distance(original.landmarks, other.landmarks)
    largest_attribute, attribute_share = 0.0, 0.0
    if original.attributes is not None and other.attributes is not None:
        largest_attribute, attribute_share = _difference(original.attributes, other.attributes, attributes)
    lost, gained = (
        side[np.setdiff1d(np.arange(len(side)), matched)] for side, matched in ((expected, rows), (actual, columns))
    )
    near_lost, near_gained = thresholds.near(lost, actual), thresholds.near(gained, expected)
    return DetectionComparison(
        expected=len(expected),
        matched=len(pairs),
        missing=lost[~near_lost].rows(),
        extra=gained[~near_gained].rows(),
        near_threshold=lost[near_lost].rows() + gained[near_gained].rows(),
        largest_corner=float(corners.max(initial=0)),
        largest_score=largest_score,
        score_share=score_share,
        landmarks=points.size // 2,
        attributes=0 if original.attributes is None else original.attributes.size,
        largest_landmark=float(points.max(initial=0)),
        largest_attribute=largest_attribute,
        attribute_share=attribute_share,
        score_sums=(float(original.scores.sum()), float(other.scores.sum())),
        order_changes=_overtaken(columns[np.argsort(rows)]),
        found=actual.rows(),
    )


def _difference(expected: Array, actual: Array, tolerance: Tolerance) -> tuple[float, float]:
    """Return the largest difference of two arrays, and the largest over its tolerance."""
    distance = np.abs(expected - actual)
    allowed = np.maximum(tolerance.at(expected), np.finfo(np.float32).tiny)  # the user's tolerance may be 0
    return float(distance.max(initial=0)), float((distance / allowed).max(initial=0))


def _distance(expected: Array | None, actual: Array | None) -> Array:
    """Return the distance of each coordinate of the landmarks, [K, P, 2]; empty without landmarks."""
    return np.zeros(0) if expected is None or actual is None else np.abs(expected - actual)


def match(expected: Detections, actual: Detections, overlap: float) -> Indices:
    """Match detections of one class that overlap by at least `overlap`, the largest overlaps first.

    Returns their indices, [M, 2].
    """
    table = overlaps(expected.boxes, actual.boxes)
    if expected.class_ids is not None and actual.class_ids is not None:
        table = np.where(expected.class_ids[:, None] == actual.class_ids, table, -1)
    rows, columns = np.nonzero(table >= overlap)
    pairs: list[tuple[int, int]] = []
    left, right = set(range(len(expected))), set(range(len(actual)))
    for index in np.argsort(-table[rows, columns], kind="stable"):
        row, column = int(rows[index]), int(columns[index])
        if row in left and column in right:
            left.remove(row)
            right.remove(column)
            pairs.append((row, column))
    return np.array(pairs, np.intp).reshape(-1, 2)


def _overtaken(ranks: Sequence[int] | Indices) -> int:
    """Return the number of ranks that are lower than an earlier one."""
    highest = np.maximum.accumulate(np.asarray(ranks, np.intp)) if len(ranks) else np.zeros(0, np.intp)
    return int(np.sum(np.asarray(ranks) < highest))


@dataclass(frozen=True)
class VectorComparison:
    """The embeddings of an image in two runs.

    Attributes:
        cosine: The cosine of the angle between both.
        distance: The Euclidean distance of the decoded vectors, which the length of one shows in, too.
        lengths: The lengths of the network's vectors, of the original and of the other run.
        problem: Why there is no comparison.

    """

    cosine: float = 0.0
    distance: float = 0.0
    lengths: tuple[float, float] = (0.0, 0.0)
    problem: str = ""


def compare_vectors(expected: Vectors, actual: Vectors) -> VectorComparison:
    """Compare two embeddings. One of another size has a problem."""
    if len(expected) != len(actual):
        return VectorComparison(problem=f"the embedding has {len(actual)} numbers, expected {len(expected)}")
    return VectorComparison(expected.cosine(actual), expected.distance(actual), (expected.length, actual.length))


@dataclass(frozen=True)
class ClassComparison:
    """The best classes of an image in two runs.

    Attributes:
        expected: The original's k best classes, best first.
        found: Those of the other run.
        differing: The ranks, from 0, at which the classes differ by more than a tie within the tolerance.
        ties: The number of ranks whose classes differ within the tolerance.
        largest_score: The largest difference of a probability.
        score_share: The largest difference of a probability over its tolerance.
        problem: Why there is no comparison.

    """

    expected: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    differing: tuple[int, ...] = ()
    ties: int = 0
    largest_score: float = 0.0
    score_share: float = 0.0
    problem: str = ""


def compare_scores(expected: Scores, actual: Scores, top_k: int, tolerance: Tolerance) -> ClassComparison:
    """Compare the `top_k` best classes and all probabilities.

    Two classes at one rank tie if the original's scores differ by no more than both tolerances. For logits, the
    tolerance d of an output gives the tolerance p * (exp(2 d) - 1) of a probability p.
    """
    if len(expected) != len(actual):
        return ClassComparison(problem=f"the output has {len(actual)} classes, expected {len(expected)}")
    allowed = np.maximum(tolerance.at(expected.raw), np.finfo(np.float32).tiny)
    best, other = expected.best(top_k), actual.best(top_k)
    apart = [rank for rank, pair in enumerate(zip(best, other, strict=True)) if pair[0] != pair[1]]
    far = [
        rank
        for rank in apart
        if abs(expected.raw[best[rank]] - expected.raw[other[rank]]) > allowed[best[rank]] + allowed[other[rank]]
    ]
    if expected.raw is not expected.values:
        allowed = expected.values * np.expm1(np.minimum(2 * allowed.max(), 1.0)) + np.finfo(np.float32).eps
    distance = np.abs(expected.values - actual.values)
    return ClassComparison(
        tuple(best),
        tuple(other),
        tuple(far),
        len(apart) - len(far),
        float(distance.max(initial=0)),
        float((distance / allowed).max(initial=0)),
    )
