"""Average precision of detections over a set of images, by the rule of PASCAL VOC 2010 ("max")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags
from sshconvert.boxes import overlaps
from sshconvert.tasks.results import Detections


def area_under_envelope(precision: Doubles, recall: Doubles) -> float:
    """VOC "max": the area under precision [P] over recall [P], 0-1.

    Recall starts at 0, never falls, and has no precision beyond its last point. Precision at a recall is the highest at
    that recall or a larger one. A point without precision (NaN, that is 0 of 0) has no area of its own.
    """
    envelope = np.maximum.accumulate(np.nan_to_num(precision[::-1], nan=0.0))[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Array], *, iou_threshold: float = 0.5
) -> float:
    """Area under the precision envelope of all detections, ordered by score over the whole set; 0-1.

    For each image, `truths` holds boxes [M, 4]. A detection is right when it overlaps one by at least `iou_threshold`
    and no better detection of the image has taken that box. Without any box in the set the figure is not defined: 0.
    """
    hits = [_hits(image, boxes, iou_threshold) for image, boxes in zip(detections, truths, strict=True)]
    total = sum(len(boxes) for boxes in truths)
    if not total:
        return 0.0
    scores = np.concatenate([image.scores for image in detections])
    right = np.concatenate(hits)[np.argsort(-scores, kind="stable")]
    recalled = np.cumsum(right)
    return area_under_envelope(recalled / np.arange(1, len(right) + 1), recalled / total)


def _hits(detections: Detections, truth: Array, iou_threshold: float) -> Flags:
    """For each detection, whether it finds a box that no better one has found."""
    right = np.zeros(len(detections), bool)
    if not len(truth):
        return right
    taken = np.zeros(len(truth), bool)
    table = overlaps(detections.boxes, truth)
    for index in np.argsort(-detections.scores, kind="stable"):
        best = int(np.argmax(table[index]))
        if table[index, best] >= iou_threshold and not taken[best]:
            right[index] = taken[best] = True
    return right
