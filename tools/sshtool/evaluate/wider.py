"""`wider`: the official evaluation of WIDER FACE, in its settings easy, medium and hard.

The rules, by their numbers. "With +1" says that a width is x2 - x1 + 1.

1. The ground truth has the boxes of all faces (x, y, w, h), and for each setting the faces that count. The others are
   ignored, not removed.
2. Predictions (x, y, w, h, score) are sorted by score, highest first. Without a readable file there are none.
3. Scores are normalised over the whole data set: (s - min) / (max - min). (`finish`)
4. Per image: x2 = x + w and y2 = y + h. For each prediction, in order, the overlap with +1 with all faces: the best
   one, the first of equals, is its face if they overlap by 0.5 or more. A prediction on an ignored face is taken out:
   it is neither right nor wrong. A face that counts is recalled once; a second prediction on it stays a proposal, as
   one on no face does, and so lowers precision. (`judge`)
5. For each of the thresholds 1 - t / 1000, t = 1 ... 1000: up to the last prediction with at least that score, the
   proposals that were not taken out, and the faces recalled. Images without face boxes or without predictions
   contribute nothing, not even false positives; their scores are normalised with the others. (`finish`)
6. Sums over the images: precision is recalled / proposals, recall is recalled / the faces that count in all images. The
   figure is the area under the envelope of precision (VOC "max") over the 1000 points; those of 0 / 0 have no area.

The rules do not say that the official tools compute with integers, but they do, and the figures depend on it by as much
as 0.003. The ground truth is int32, and MATLAB's int32 with a double is an int32, rounded, halves away from zero. So
the corners of the intersection, the sum of the areas and the overlap itself are rounded (`integer_overlaps`): an
overlap is 1 where it is 0.5 or more, else 0, and "the first of equals" is the first face that the prediction is on. And
rule 3 is computed in single precision, because the tools begin with the least and the largest number of that kind.

Where all scores are equal, rule 3 is 0 / 0: no score reaches any threshold, and the figures are 0. The result notes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    Boxes are corners; those of `faces` are whole numbers.
    """
    first, second = predictions[:, None, :], faces[None, :, :]
    lower, upper = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    sides = _int32(_int32(upper) - _int32(lower) + 1)
    intersection = _int32(sides[..., 0] * sides[..., 1])
    areas = [np.prod(group[..., 2:] - group[..., :2] + 1, axis=-1) for group in (first, second)]
    union = _int32(_int32(areas[0] + _int32(areas[1])) - intersection)
    # By 0, a positive integer is divided into the largest one.
    whole = np.divide(intersection, union, out=np.full_like(union, _INT32[1]), where=union != 0)
    return np.where((sides > 0).all(axis=-1), _int32(whole), 0.0)


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 3, 5 and 6 over the data set. Raises EvaluationError if the records do not belong together."""
    ordered = in_order(records)
    found = judgements(ordered, PROTOCOL)
    scores = np.concatenate([judgement.scores for judgement in found])
    points = _first_points(scores)
    curves = []
    for setting in found[0].faces:
        outcomes = np.array(list("".join(judgement.outcomes[setting] for judgement in found)), "U1")
        hits = _reached(points[outcomes == HIT])
        wrong = _reached(points[np.isin(outcomes, (FALSE, DUPLICATE))])
        faces = sum(judgement.faces[setting] for judgement in found)
        curves.append(make_curve(setting, hits, wrong, THRESHOLDS, faces))
    return make_result(PROTOCOL, ordered, curves, _notes(scores))


def _first_points(scores: Doubles) -> Indices:
    """Rules 3 and 5: for each score the first point, 0 ... POINTS - 1, whose threshold it reaches; POINTS if none.

    Inside an image predictions are sorted, so "up to the last one that reaches the threshold" is "all that do".
    """
    if _all_equal(scores):
        return np.full(len(scores), POINTS, np.intp)
    single = scores.astype(np.float32)
    least = np.min(single)
    normalised = ((single - least) / (np.max(single) - least)).astype(np.float64)
    return np.asarray(POINTS - np.searchsorted(THRESHOLDS[::-1], normalised, side="right"))


def _reached(points: Indices) -> Indices:
    """How many of `points` have been reached at each point, [POINTS]."""
    return np.cumsum(np.bincount(points, minlength=POINTS + 1)[:POINTS])


def _notes(scores: Doubles) -> Sequence[str]:
    return (EQUAL_SCORES,) if len(scores) and _all_equal(scores) else ()


def _all_equal(scores: Doubles) -> bool:
    """In single precision; also where there are none."""
    return len(np.unique(scores.astype(np.float32))) < 2


def _int32(values: Doubles) -> Doubles:
    """What MATLAB makes of doubles where an int32 is wanted: rounded, halves away from zero, and within its range."""
    whole = np.trunc(values)
    rounded = whole + np.copysign(np.abs(values - whole) >= 0.5, values)
    return np.asarray(np.clip(rounded, *_INT32))
