"""`omz`: Open Model Zoo's accuracy-checker configuration, behind the model card's 84.80% mAP on WIDER FACE.

The rules, by their numbers. Boxes are x1, y1, x2, y2 in pixels of the original image, and "with +1" says that a width
is x2 - x1 + 1.

1. Annotations are those of the annotation text, x2 = x + w and y2 = y + h, one class.
2. An image is stretched to the network's input, without keeping its proportions, bilinear, and goes in as raw BGR.
3. Per stride: all anchors, no threshold on scores, nothing clipped; ordered by score, the first 1000; suppression with
   +1, which drops overlaps of more than 0.3. The survivors of all strides are joined as they are, and divided by the
   scale of the resize in x and in y. (`decode`)
4. Coordinates of annotations and predictions are rounded to the nearest integer, halves to the even one. (`judge`)
5. Annotations are clipped to 0-1024. Those of a height y2 - y1 outside 64-1024, and empty ones, are then difficult.
6. Predictions of the whole data set are taken by score, highest first. Of an image's annotations that are not difficult
   the one with the largest overlap, with +1, counts; only where that is less than 0.5 the difficult ones are looked at.
   On none: false. On one that is not difficult: true the first time, false afterwards. On a difficult one: neither the
   first time, false afterwards. (`judge`; the order of the data set matters inside an image only.)
7. Recall is that of annotations that are not difficult. The figure is the area under the envelope of precision (VOC
   "max"). (`finish`)

The rules leave open which of equal scores comes first, and where many are equal (at 0.999, say) that moves the figure
by as much as 0.005. The accuracy checker leaves it to NumPy's quicksort, on the predictions in their own order, image
by image; so does this, see `_order`. Inside an image the first of equal scores is matched first, and of equal overlaps
the first annotation counts.
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
    """Rule 3, for a batch: `outputs` as `task.decode` takes them.

    `scales` are the (x, y) of each image's resize: 640 / its width, 640 / its height. A longer batch is cut to these.

    Raises DetectionError if an output is missing, has a shape that does not belong to `task`, or holds NaN or infinity,
    and UsageError for a task without strides.
    """
    for name in task.outputs():
        if not np.isfinite(outputs.get(name, 0)).all():
            raise DetectionError(f"{name} holds NaN or infinity; `sshtool verify` says whether the artifact is whole")
    exact = {name: values[: len(scales)].astype(np.float64) for name, values in outputs.items()}
    images = task.by_stride(exact, CANDIDATES_PER_STRIDE)
    if len(images) < len(scales):
        raise DetectionError(f"the outputs are of {len(images)} images, expected {len(scales)}")
    return [_joined(strides, scale) for strides, scale in zip(images, scales, strict=True)]


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rules 4 to 6 for one image."""
    found, faces = np.rint(corners(predictions.boxes)), _clipped(truth)  # rule 4; halves to even
    difficult = _difficult(faces)
    matches = _matches(found, faces, difficult)
    first = first_on_its_face(matches, predictions.scores)
    on_difficult = np.append(difficult, False)[matches]  # NOWHERE is the last
    outcomes = letters(matches == NOWHERE, on_difficult & first, first)
    return Judgement(predictions.scores, {SETTING: outcomes}, {SETTING: int(np.count_nonzero(~difficult))})


def counted(truth: ImageTruth) -> Flags:
    """Which of the annotations are not difficult, bool [F]."""
    return ~_difficult(_clipped(truth))


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 6 and 7 over the data set. Raises EvaluationError if the records do not belong together."""
    ordered = in_order(records)
    found = judgements(ordered, PROTOCOL)
    scores = np.concatenate([judgement.scores for judgement in found])
    outcomes = np.array(list("".join(judgement.outcomes[SETTING] for judgement in found)), "U1")
    order = _order(scores)
    hits = np.cumsum(outcomes[order] == HIT)
    wrong = np.cumsum(np.isin(outcomes[order], (FALSE, DUPLICATE)))
    faces = sum(judgement.faces[SETTING] for judgement in found)
    return make_result(PROTOCOL, ordered, [make_curve(SETTING, hits, wrong, scores[order], faces)], ())


def _order(scores: Doubles) -> Indices:
    """From the highest score to the lowest, equal ones as the quicksort of NumPy before 1.25 leaves them.

    Newer ones sort doubles with vector instructions, where the processor has them, and leave equal ones otherwise; long
    doubles are still sorted as ever.
    """
    return np.argsort(-scores.astype(np.longdouble), kind="quicksort")


def _joined(strides: Sequence[Detections], scale: tuple[float, float]) -> Predictions:
    """The survivors of each stride's own suppression, in the image's pixels."""
    # An untrained head may ask for boxes of infinite size. These are as large, and finite in the image's pixels.
    largest = LARGEST_NUMBER / 4 * min(1.0, *scale)
    bounded = [replace(stride, boxes=np.clip(stride.boxes, -largest, largest)) for stride in strides]
    joined = Detections.join([stride[suppress(stride.boxes, SUPPRESSED_ABOVE, inclusive=False)] for stride in bounded])
    return from_corners(joined.boxes / np.array([*scale, *scale]), joined.scores)


def _clipped(truth: ImageTruth) -> Doubles:
    """Rules 4 and 5, of annotations: rounded, halves to even, and clipped."""
    return np.clip(np.rint(corners(truth.annotated)), 0, LARGEST_COORDINATE)


def _difficult(faces: Doubles) -> Flags:
    """Rule 5, of rounded and clipped annotations."""
    widths, heights = faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1]
    return (heights < HEIGHTS[0]) | (heights > HEIGHTS[1]) | (widths <= 0)


def _matches(found: Doubles, faces: Doubles, difficult: Flags) -> Indices:
    """Rule 6: the number of each prediction's annotation, or NOWHERE. A difficult one only where no other will do."""
    matches = np.full(len(found), NOWHERE, np.intp)
    for numbers in (np.flatnonzero(~difficult), np.flatnonzero(difficult)):
        open_ones = np.flatnonzero(matches == NOWHERE)
        best = best_face(found[open_ones], faces[numbers])
        matches[open_ones] = np.append(numbers, NOWHERE)[best]  # NOWHERE is the last here too
    return matches
