"""`omz`: Open Model Zoo's accuracy-checker configuration, behind its model cards' mAP on WIDER FACE.

The rules have numbers. Boxes are x1, y1, x2, y2 in pixels of the original image. "With +1", a width is x2 - x1 + 1. The
numbers in the rules are SSH's, behind its 84.80%. A model's description sets others (`OmzRules`):

- RetinaFace (87.30% with ResNet-50, 77.1531% with anti-cov): rule 3 keeps all candidates and suppresses overlaps of
  more than 0.5 without +1, and rule 6 measures overlaps without +1. The score is that of the face: landmarks and the
  mask are not scored.
- MobileFace (78.7488%): rule 3 drops scores below 0.001, suppresses overlaps of more than 0.45, with +1, over all
  strides in pixels of the image, and clips predictions to 0 ... width and 0 ... height. There is no rule 4. In rule 5,
  annotations are not clipped, and those lower than 60 are difficult. Rule 6 measures overlaps without +1; a difficult
  annotation takes any number of predictions of which it covers half or more, and they count neither way.

Open Model Zoo's images reach MobileFace's network as B, G, R, although it was trained on R, G, B; here it gets R, G, B.

SSH's rules 4 to 7 are checked against the accuracy checker itself; the other settings only against its source. What it
does in rule 6 if a difficult annotation covers a prediction by exactly the overlap with another one is not reproduced.

1. Annotations come from the annotation text, x2 = x + w and y2 = y + h, in one class.
2. The image is stretched to the network's input, bilinearly and without keeping its proportions, in raw BGR.
3. Each stride takes all anchors without a threshold and without clipping, keeps the 1000 highest scores, and suppresses
   overlaps of more than 0.3, with +1. The strides are joined without a further suppression, and the boxes are divided
   by the scale of the resize in x and in y. (`decode`)
4. Coordinates of annotations and predictions are rounded to the nearest integer, halves to even. (`judge`)
5. Annotations are clipped to 0-1024. Then annotations with a height y2 - y1 outside 64-1024, and empty ones, are
   difficult.
6. The predictions of the whole dataset are matched by descending score. A prediction matches the annotation that it
   overlaps most, with +1, by at least 0.5: among those that are not difficult, or else among the difficult ones.
   Without a match it is false. On an annotation that is not difficult, the first match is true and others are false. On
   a difficult one, the first match counts neither way and others are false. (`judge` can match each image on its own.)
7. Recall counts annotations that are not difficult. The figure is the area under the envelope of precision (VOC "max").
   (`finish`)

The rules leave the order of equal scores open. If many scores are equal (at 0.999, say), that order moves the figure by
as much as 0.005. The accuracy checker orders them by NumPy's quicksort on the predictions of all images in their order;
`_order` does the same. Inside an image, the first of equal scores is matched first, and of equal overlaps the first
annotation counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags, Indices
from sshconvert.boxes import overlaps, suppress
from sshconvert.errors import DetectionError, EvaluationError
from sshconvert.models.protocols import OmzRules
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.results import Detections
from sshtool.evaluate.curves import Result, judgements, make_curve, make_result
from sshtool.evaluate.matching import MOST_OVERLAPS, NOWHERE, ON_FACE, best_face, corners, first_on_its_face, letters
from sshtool.evaluate.predictions import LARGEST_NUMBER, Predictions, from_corners
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, ImageRecord, Judgement, in_order
from sshtool.wider_face.ground_truth import ImageTruth

PROTOCOL: Final = "omz"
SETTING: Final = "mAP"

SSH: Final = OmzRules()

_ALL: Final = 1 << 40  # more than any number of candidates
_PAIRS: Final = 1 << 18  # compared at once


def decode(
    outputs: Mapping[str, Array],
    scales: Sequence[tuple[float, float]],
    task: DetectionTask,
    rules: OmzRules = SSH,
    *,
    input_size: tuple[int, int] = (0, 0),
) -> list[Predictions]:
    """Rule 3 for a batch: `outputs` as `task.decode` takes them.

    `scales` holds the (x, y) scale of each image's resize: 640 / width, 640 / height. Further images of a longer batch
    are dropped. `input_size`, height and width, is needed to clip.

    Raises DetectionError if an output is missing, has a wrong shape for `task`, or holds NaN or infinity; UsageError
    for a task without strides.
    """
    check_outputs(outputs, task)
    exact = {name: values[: len(scales)].astype(np.float64) for name, values in outputs.items()}
    images = task.by_stride(exact, rules.candidates_per_stride or _ALL)
    if len(images) < len(scales):
        raise DetectionError(f"the outputs are of {len(images)} images, expected {len(scales)}")
    return [_joined(strides, scale, rules, input_size) for strides, scale in zip(images, scales, strict=True)]


def check_outputs(outputs: Mapping[str, Array], task: DetectionTask) -> None:
    """Raise DetectionError for NaN and infinity, which a threshold on scores would drop silently."""
    for name in task.outputs():
        if not np.isfinite(outputs.get(name, 0)).all():
            raise DetectionError(f"{name} holds NaN or infinity; `sshtool verify` says whether the artifact is whole")


def judge(truth: ImageTruth, predictions: Predictions, rules: OmzRules = SSH) -> Judgement:
    """Rules 4 to 6 for one image."""
    boxes, faces = _rounded(corners(predictions.boxes), rules), _annotations(truth, rules)
    difficult = _difficult(faces, rules)
    matches = _matches(boxes, faces, difficult, rules)
    first = first_on_its_face(matches, predictions.scores)
    on_difficult = np.append(difficult, False)[matches]  # NOWHERE, -1, selects the appended False
    neither = on_difficult & first if rules.difficult_once else on_difficult
    outcomes = letters(matches == NOWHERE, neither, first)
    return Judgement(predictions.scores, {SETTING: outcomes}, {SETTING: int(np.count_nonzero(~difficult))})


def counted(truth: ImageTruth, rules: OmzRules = SSH) -> Flags:
    """Which of the annotations are not difficult, bool [F]."""
    return ~_difficult(_annotations(truth, rules), rules)


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 6 and 7 over the dataset. Raises EvaluationError if the records do not belong together."""
    ordered = in_order(records)
    images = judgements(ordered, PROTOCOL)
    scores = np.concatenate([judgement.scores for judgement in images])
    outcomes = np.array(list("".join(judgement.outcomes[SETTING] for judgement in images)), "U1")
    order = _order(scores)
    hits = np.cumsum(outcomes[order] == HIT)
    wrong = np.cumsum(np.isin(outcomes[order], (FALSE, DUPLICATE)))
    faces = sum(judgement.faces[SETTING] for judgement in images)
    return make_result(PROTOCOL, ordered, [make_curve(SETTING, hits, wrong, scores[order], faces)], ())


def _order(scores: Doubles) -> Indices:
    """Indices by descending score, with equal scores in the order of NumPy's quicksort before version 1.25.

    Since 1.25, NumPy sorts doubles with vector instructions, which order equal scores differently. It still sorts long
    doubles in the old way.
    """
    return np.argsort(-scores.astype(np.longdouble), kind="quicksort")


def _joined(
    strides: Sequence[Detections], scale: tuple[float, float], rules: OmzRules, input_size: tuple[int, int]
) -> Predictions:
    """The boxes that remain after suppression, in image pixels."""
    # An untrained head may give boxes of infinite size. This limit keeps them finite in image pixels.
    largest = LARGEST_NUMBER / 4 * min(1.0, *scale)
    bounded = [replace(stride, boxes=np.clip(stride.boxes, -largest, largest)) for stride in strides]
    factors = np.array([*scale, *scale])
    kept = partial(suppress, iou_threshold=rules.overlap, inclusive=False, last_pixel=int(rules.overlap_with_corners))
    if rules.suppression == "stride":
        joined = Detections.join([stride[kept(stride.boxes)] for stride in bounded])
        boxes = joined.boxes / factors
    else:
        joined = Detections.join(bounded).from_score(rules.least_score).best_first()
        boxes = joined.boxes / factors
        places = kept(boxes)
        joined, boxes = joined[places], boxes[places]
    if rules.clipped:
        height, width = input_size
        boxes = np.clip(boxes, 0, np.array([width, height, width, height]) / factors)
    good = joined.scores >= rules.least_score
    return from_corners(boxes[good], joined.scores[good])


def _rounded(boxes: Doubles, rules: OmzRules) -> Doubles:
    """Rule 4, halves to even."""
    return np.rint(boxes) if rules.rounded else boxes


def _annotations(truth: ImageTruth, rules: OmzRules) -> Doubles:
    """Rules 4 and 5: annotations rounded and clipped."""
    boxes = _rounded(corners(truth.annotated), rules)
    return np.clip(boxes, 0, rules.largest_coordinate) if rules.largest_coordinate else boxes


def _difficult(faces: Doubles, rules: OmzRules) -> Flags:
    """Rule 5 on rounded and clipped annotations."""
    widths, heights = faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1]
    largest = rules.largest_height or np.inf
    return (heights < rules.least_height) | (heights > largest) | (widths <= 0) | (heights <= 0)


def _matches(boxes: Doubles, faces: Doubles, difficult: Flags, rules: OmzRules) -> Indices:
    """Rule 6: the number of each prediction's annotation, or NOWHERE."""
    measure = partial(overlaps, last_pixel=int(rules.match_with_corners))
    matches = np.full(len(boxes), NOWHERE, np.intp)
    for numbers in (np.flatnonzero(~difficult), np.flatnonzero(difficult)):
        unmatched = np.flatnonzero(matches == NOWHERE)
        if difficult[numbers].any() and not rules.difficult_once:
            best = np.where(_covered(boxes[unmatched], faces[numbers], rules), 0, NOWHERE)
        else:
            best = best_face(boxes[unmatched], faces[numbers], measure)
        matches[unmatched] = np.append(numbers, NOWHERE)[best]
    return matches


def _covered(boxes: Doubles, faces: Doubles, rules: OmzRules) -> Flags:
    """Which of the predictions one of the annotations covers by `ON_FACE` or more of their area, bool [K].

    Raises EvaluationError for more than `MOST_OVERLAPS` pairs.
    """
    if len(boxes) * len(faces) > MOST_OVERLAPS:
        raise EvaluationError(
            f"{len(boxes)} predictions and {len(faces)} difficult faces are more than {MOST_OVERLAPS} pairs; suppress "
            "overlapping predictions"
        )
    last = int(rules.match_with_corners)
    areas = (boxes[:, 2] - boxes[:, 0] + last) * (boxes[:, 3] - boxes[:, 1] + last)
    step = max(1, _PAIRS // max(1, len(faces)))
    covered = np.zeros(len(boxes), bool)
    for start in range(0, len(boxes), step):
        part = boxes[start : start + step, None]
        sides = np.minimum(part[..., 2:], faces[None, :, 2:]) - np.maximum(part[..., :2], faces[None, :, :2]) + last
        common = np.prod(np.maximum(sides, 0), axis=2).max(axis=1, initial=0)
        own = areas[start : start + step]
        covered[start : start + step] = (own > 0) & (common >= ON_FACE * own)
    return covered
