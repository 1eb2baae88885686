"""`wider`: the official evaluation of WIDER FACE, in its settings easy, medium and hard.

The rules have numbers. "With +1", a width is x2 - x1 + 1.

1. The ground truth holds the boxes of all faces (x, y, w, h), and for each setting the faces that count. The others are
   ignored, not removed.
2. Predictions (x, y, w, h, score) are sorted by descending score. An image without a readable file has none.
3. Scores are normalised over the whole dataset: (s - min) / (max - min). (`finish`)
4. In each image, x2 = x + w and y2 = y + h. The face of a prediction is the one that it overlaps most, with +1, the
   first of equals, if they overlap by 0.5 or more. A prediction on an ignored face is left out. A face that counts is
   recalled once; further predictions on it, and predictions on no face, stay proposals and lower precision. (`judge`)
5. Each threshold 1 - t / 1000, t = 1 ... 1000, counts proposals and recalled faces up to the last prediction that
   reaches it. Images without face boxes or without predictions contribute nothing, not even false positives, but their
   scores take part in rule 3. (`finish`)
6. Over all images, precision is recalled / proposals, and recall is recalled / faces that count. The figure is the area
   under the envelope of precision (VOC "max") over the 1000 points; points of 0 / 0 have no area.

The official tools compute with integers, which moves the figures by as much as 0.003. The ground truth is int32, and
MATLAB's int32 with a double gives an int32, rounded, halves away from zero. So the corners of the intersection, the sum
of the areas and the overlap itself are rounded (`integer_overlaps`): an overlap is 1 from 0.5 on, else 0, and "the
first of equals" is the first face that the prediction is on. Rule 3 is computed in single precision, because the tools
begin with the smallest and the largest single.

If all scores are equal, rule 3 is 0 / 0: no score reaches a threshold, and the figures are 0. A note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Indices
from sshtool.evaluate.curves import Result, judgements, make_curve, make_result
from sshtool.evaluate.matching import NOWHERE, best_face, corners, first_on_its_face, letters
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, NEITHER, ImageRecord, Judgement, in_order
from sshtool.wider_face.ground_truth import ImageTruth

PROTOCOL: Final = "wider"
_INT32: Final = (-(2.0**31), 2.0**31 - 1)

POINTS: Final = 1000
THRESHOLDS: Final[Doubles] = 1 - np.arange(1, POINTS + 1) / POINTS

EQUAL_SCORES: Final = (
    "All predictions have the same score: normalised it is 0 / 0 and reaches no threshold, so the figures are 0. "
    "Save the scores that the detector gave."
)


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rule 4 for one image, in each setting."""
    scores = predictions.scores
    faces = {setting: int(np.count_nonzero(counted)) for setting, counted in truth.counted.items()}
    if not len(truth.boxes):  # rule 5: contributes nothing
        return Judgement(scores, dict.fromkeys(faces, NEITHER * len(scores)), faces)
    matches = best_face(corners(predictions.boxes), corners(_int32(truth.boxes)), integer_overlaps)
    first = first_on_its_face(matches, scores)
    nowhere = matches == NOWHERE
    outcomes = {
        setting: letters(nowhere, ~counted[matches] & ~nowhere, first) for setting, counted in truth.counted.items()
    }
    return Judgement(scores, outcomes, faces)


def integer_overlaps(predictions: Doubles, faces: Doubles) -> Doubles:
    """Intersection over union, with +1, of every pair, [K, F], as MATLAB computes it for faces in int32.

    Boxes are corners. The corners of `faces` are integers.
    """
    first, second = predictions[:, None, :], faces[None, :, :]
    lower, upper = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    sides = _int32(_int32(upper) - _int32(lower) + 1)
    intersection = _int32(sides[..., 0] * sides[..., 1])
    areas = [np.prod(group[..., 2:] - group[..., :2] + 1, axis=-1) for group in (first, second)]
    union = _int32(_int32(areas[0] + _int32(areas[1])) - intersection)
    # In MATLAB, a positive integer divided by 0 is the largest integer.
    quotient = np.divide(intersection, union, out=np.full_like(union, _INT32[1]), where=union != 0)
    return np.where((sides > 0).all(axis=-1), _int32(quotient), 0.0)


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 3, 5 and 6 over the dataset. Raises EvaluationError if the records do not belong together."""
    ordered = in_order(records)
    images = judgements(ordered, PROTOCOL)
    scores = np.concatenate([judgement.scores for judgement in images])
    points = _first_points(scores)
    curves = []
    for setting in images[0].faces:
        outcomes = np.array(list("".join(judgement.outcomes[setting] for judgement in images)), "U1")
        hits = _reached(points[outcomes == HIT])
        wrong = _reached(points[np.isin(outcomes, (FALSE, DUPLICATE))])
        faces = sum(judgement.faces[setting] for judgement in images)
        curves.append(make_curve(setting, hits, wrong, THRESHOLDS, faces))
    notes = (EQUAL_SCORES,) if len(scores) and _all_equal(scores) else ()
    return make_result(PROTOCOL, ordered, curves, notes)


def _first_points(scores: Doubles) -> Indices:
    """Rules 3 and 5: for each score the first point, 0 ... POINTS - 1, whose threshold it reaches; POINTS if none.

    Because the predictions of an image are sorted, rule 5 counts exactly those that reach the threshold.
    """
    if _all_equal(scores):
        return np.full(len(scores), POINTS, np.intp)
    single = scores.astype(np.float32)
    least = np.min(single)
    normalised = ((single - least) / (np.max(single) - least)).astype(np.float64)
    return np.asarray(POINTS - np.searchsorted(THRESHOLDS[::-1], normalised, side="right"))


def _reached(points: Indices) -> Indices:
    """The number of `points` up to each point, [POINTS]."""
    return np.cumsum(np.bincount(points, minlength=POINTS + 1)[:POINTS])


def _all_equal(scores: Doubles) -> bool:
    """Whether all scores are equal in single precision. True without scores."""
    return len(np.unique(scores.astype(np.float32))) < 2


def _int32(values: Doubles) -> Doubles:
    """Convert doubles as MATLAB converts them to int32: rounded, halves away from zero, and clipped to its range."""
    integers = np.trunc(values)
    rounded = integers + np.copysign(np.abs(values - integers) >= 0.5, values)
    return np.asarray(np.clip(rounded, *_INT32))
