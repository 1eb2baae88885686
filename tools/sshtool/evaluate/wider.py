"""`wider`: the official evaluation of WIDER FACE, in its settings easy, medium and hard.

The rules, by their numbers. "With +1" says that a width is x2 - x1 + 1.

1. The ground truth has the boxes of all faces (x, y, w, h), and for each setting the faces that count. The others are
   ignored, not removed.
2. Predictions (x, y, w, h, score) are sorted by score, highest first. Without a readable file there are none.
3. Scores are normalised over the whole data set: (s - min) / (max - min). (`finish`)
4. Per image: x2 = x + w and y2 = y + h. For each prediction, in order, the overlap with +1 with all faces: the best one,
   the first of equals, is its face if they overlap by 0.5 or more. A prediction on an ignored face is taken out: it is
   neither right nor wrong. A face that counts is recalled once; a second prediction on it stays a proposal, as one on
   no face does, and so lowers precision. (`judge`)
5. For each of the thresholds 1 - t / 1000, t = 1 ... 1000: up to the last prediction with at least that score, the
   proposals that were not taken out, and the faces recalled. Images without face boxes or without predictions
   contribute nothing, not even false positives; their scores are normalised with the others. (`finish`)
6. Sums over the images: precision is recalled / proposals, recall is recalled / the faces that count in all images. The
   figure is the area under the envelope of precision (VOC "max") over the 1000 points; those of 0 / 0 have no area.

Where all scores are equal, rule 3 is 0 / 0: no score reaches any threshold, and the figures are 0. The result notes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sshtool.evaluate.curves import Floats, Result, judgements, make_curve, make_result
from sshtool.evaluate.ground_truth import ImageTruth
from sshtool.evaluate.matching import NOWHERE, best_face, corners, first_on_its_face, letters
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, NEITHER, ImageRecord, Judgement, in_order

PROTOCOL: Final = "wider"
POINTS: Final = 1000
THRESHOLDS: Final[Floats] = 1 - np.arange(1, POINTS + 1) / POINTS

EQUAL_SCORES: Final = (
    "All predictions have the same score: normalised it is 0 / 0 and reaches no threshold, so the figures are 0. "
    "Save the scores that the detector gave."
)


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rule 4 for one image, in each setting."""
    ordered = predictions.best_first()
    faces = {setting: int(np.count_nonzero(counted)) for setting, counted in truth.counted.items()}
    if not len(truth.boxes):  # rule 5: contributes nothing
        return Judgement(ordered.scores, dict.fromkeys(faces, NEITHER * len(ordered.scores)), faces)
    matches = best_face(corners(ordered.boxes), corners(truth.boxes))
    first = first_on_its_face(matches)
    nowhere = matches == NOWHERE
    outcomes = {
        setting: letters(nowhere, ~counted[matches] & ~nowhere, first) for setting, counted in truth.counted.items()
    }
    return Judgement(ordered.scores, outcomes, faces)


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


def _first_points(scores: Floats) -> npt.NDArray[np.intp]:
    """Rules 3 and 5: for each score the first point, 0 ... POINTS - 1, whose threshold it reaches; POINTS if none.

    Inside an image predictions are sorted, so "up to the last one that reaches the threshold" is "all that do".
    """
    if not len(scores) or scores.max() == scores.min():
        return np.full(len(scores), POINTS, np.intp)
    normalised = (scores - scores.min()) / (scores.max() - scores.min())
    return POINTS - np.searchsorted(THRESHOLDS[::-1], normalised, side="right")


def _reached(points: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """How many of `points` have been reached at each point, [POINTS]."""
    return np.cumsum(np.bincount(points, minlength=POINTS + 1)[:POINTS])


def _notes(scores: Floats) -> Sequence[str]:
    return (EQUAL_SCORES,) if len(scores) and scores.max() == scores.min() else ()
