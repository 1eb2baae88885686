"""`omz`: Open Model Zoo's accuracy-checker configuration, behind the model card's 84.80% mAP on WIDER FACE.

The rules have numbers. Boxes are x1, y1, x2, y2 in pixels of the original image. "With +1", a width is x2 - x1 + 1.

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
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags, Indices
from sshconvert.boxes import suppress
from sshconvert.errors import DetectionError
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.results import Detections
from sshtool.evaluate.curves import Result, judgements, make_curve, make_result
from sshtool.evaluate.matching import NOWHERE, best_face, corners, first_on_its_face, letters
from sshtool.evaluate.predictions import LARGEST_NUMBER, Predictions, from_corners
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, ImageRecord, Judgement, in_order
from sshtool.wider_face.ground_truth import ImageTruth

PROTOCOL: Final = "omz"
SETTING: Final = "mAP"

CANDIDATES_PER_STRIDE: Final = 1000
SUPPRESSED_ABOVE: Final = 0.3
LARGEST_COORDINATE: Final = 1024
HEIGHTS: Final = (64, 1024)


def decode(
    outputs: Mapping[str, Array], scales: Sequence[tuple[float, float]], task: DetectionTask
) -> list[Predictions]:
    """Rule 3 for a batch: `outputs` as `task.decode` takes them.

    `scales` holds the (x, y) scale of each image's resize: 640 / width, 640 / height. Further images of a longer batch
    are dropped.

    Raises DetectionError if an output is missing, has a wrong shape for `task`, or holds NaN or infinity; UsageError
    for a task without strides.
    """
    check_outputs(outputs, task)
    exact = {name: values[: len(scales)].astype(np.float64) for name, values in outputs.items()}
    images = task.by_stride(exact, CANDIDATES_PER_STRIDE)
    if len(images) < len(scales):
        raise DetectionError(f"the outputs are of {len(images)} images, expected {len(scales)}")
    return [_joined(strides, scale) for strides, scale in zip(images, scales, strict=True)]


def check_outputs(outputs: Mapping[str, Array], task: DetectionTask) -> None:
    """Raise DetectionError for NaN and infinity, which a threshold on scores would drop silently."""
    for name in task.outputs():
        if not np.isfinite(outputs.get(name, 0)).all():
            raise DetectionError(f"{name} holds NaN or infinity; `sshtool verify` says whether the artifact is whole")


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rules 4 to 6 for one image."""
    boxes, faces = np.rint(corners(predictions.boxes)), _clipped(truth)  # rule 4; halves to even
    difficult = _difficult(faces)
    matches = _matches(boxes, faces, difficult)
    first = first_on_its_face(matches, predictions.scores)
    on_difficult = np.append(difficult, False)[matches]  # NOWHERE, -1, selects the appended False
    outcomes = letters(matches == NOWHERE, on_difficult & first, first)
    return Judgement(predictions.scores, {SETTING: outcomes}, {SETTING: int(np.count_nonzero(~difficult))})


def counted(truth: ImageTruth) -> Flags:
    """Which of the annotations are not difficult, bool [F]."""
    return ~_difficult(_clipped(truth))


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


def _joined(strides: Sequence[Detections], scale: tuple[float, float]) -> Predictions:
    """The boxes that remain after suppression in each stride, in image pixels."""
    # An untrained head may give boxes of infinite size. This limit keeps them finite in image pixels.
    largest = LARGEST_NUMBER / 4 * min(1.0, *scale)
    bounded = [replace(stride, boxes=np.clip(stride.boxes, -largest, largest)) for stride in strides]
    joined = Detections.join([stride[suppress(stride.boxes, SUPPRESSED_ABOVE, inclusive=False)] for stride in bounded])
    return from_corners(joined.boxes / np.array([*scale, *scale]), joined.scores)


def _clipped(truth: ImageTruth) -> Doubles:
    """Rules 4 and 5: annotations rounded, halves to even, and clipped."""
    return np.clip(np.rint(corners(truth.annotated)), 0, LARGEST_COORDINATE)


def _difficult(faces: Doubles) -> Flags:
    """Rule 5 on rounded and clipped annotations."""
    widths, heights = faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1]
    return (heights < HEIGHTS[0]) | (heights > HEIGHTS[1]) | (widths <= 0)


def _matches(boxes: Doubles, faces: Doubles, difficult: Flags) -> Indices:
    """Rule 6: the number of each prediction's annotation, or NOWHERE."""
    matches = np.full(len(boxes), NOWHERE, np.intp)
    for numbers in (np.flatnonzero(~difficult), np.flatnonzero(difficult)):
        unmatched = np.flatnonzero(matches == NOWHERE)
        best = best_face(boxes[unmatched], faces[numbers])
        matches[unmatched] = np.append(numbers, NOWHERE)[best]
    return matches
