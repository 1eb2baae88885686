"""Average precision of detections over a set of images, by the rule of PASCAL VOC 2010 ("max")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sshconvert.arrays import Array, Doubles, Flags
from sshconvert.boxes import overlaps
from sshconvert.tasks.results import Detections


def area_under_envelope(precision: Doubles, recall: Doubles) -> float:
    """Return the area under the envelope of precision [P] over recall [P], 0-1.

    Recall never falls. The envelope at a recall is the highest precision at this recall or a larger one, and 0 beyond
    the last recall. A precision of 0 / 0 (NaN) counts as 0.
    """
    envelope = np.maximum.accumulate(np.nan_to_num(precision[::-1], nan=0.0))[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Array], *, iou_threshold: float = 0.5
) -> float:
    """Return the area under the precision envelope of all detections, ordered by score over the whole set; 0-1.

    For each image, `truths` holds boxes [M, 4]. A detection is right if it overlaps a box by at least `iou_threshold`
    and no better detection of the image has matched that box. Without any boxes, the result is 0.
    """
    hits = [_hits(image, boxes, iou_threshold) for image, boxes in zip(detections, truths, strict=True)]
    total = sum(len(boxes) for boxes in truths)
    if not total:
        return 0.0
    scores = np.concatenate([image.scores for image in detections])
    recalled = np.cumsum(np.concatenate(hits)[np.argsort(-scores, kind="stable")])
    return area_under_envelope(recalled / np.arange(1, len(recalled) + 1), recalled / total)


def _hits(detections: Detections, truth: Array, iou_threshold: float) -> Flags:
    """Return whether each detection matches a box that no better one has matched."""
    hits = np.zeros(len(detections), bool)
    if not len(truth):
        return hits
    matched = np.zeros(len(truth), bool)
    table = overlaps(detections.boxes, truth)
    for index in np.argsort(-detections.scores, kind="stable"):
        best = int(np.argmax(table[index]))
        if table[index, best] >= iou_threshold and not matched[best]:
            hits[index] = matched[best] = True
    return hits
