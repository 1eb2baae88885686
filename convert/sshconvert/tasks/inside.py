"""The outputs of a file with the post-processing inside.

For N images and at most K detections of each, in pixels of the network's input:

- `boxes`: float32 [N, K, 4], x1, y1, x2, y2 with the corner pixels included, best first; zeros after the last
- `scores`: float32 [N, K]
- `count`: int32 [N], the number of detections

K is the smaller of `top_k` and the number of candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import DetectionError
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.results import Detections

BOXES: Final = "boxes"
SCORES: Final = "scores"
COUNT: Final = "count"
OUTPUTS: Final = (BOXES, SCORES, COUNT)
TYPES: Final[Mapping[str, type]] = {BOXES: np.float32, SCORES: np.float32, COUNT: np.int32}

CHECK: Final = "faces"  # the name of the check in reports
# The problem of results that are not compared, because findings of that check describe their problems.
NOT_DECODED: Final = "the faces are not what they have to be"


@dataclass(frozen=True)
class Inside:
    """The post-processing inside a file: its thresholds, and the largest number of detections of an image."""

    score_threshold: float
    iou_threshold: float
    top_k: int


def detections_of(outputs: Mapping[str, Array]) -> list[Detections]:
    """The detections of each image. Raises DetectionError if the outputs are others."""
    boxes, scores, counts = (outputs.get(name, np.zeros(0)) for name in OUTPUTS)
    fits = boxes.ndim == 3 and boxes.shape[2] == 4 and scores.shape == boxes.shape[:2]
    fits = fits and counts.shape == boxes.shape[:1] and counts.dtype.kind in "iu"
    if not fits or ((counts < 0) | (counts > scores.shape[1])).any():
        raise DetectionError(f"the outputs are not {', '.join(OUTPUTS)}: [N, K, 4], [N, K] and [N], 0 to K")
    images = zip(boxes, scores, counts.tolist(), strict=True)
    return [Detections(corners[:count], values[:count]) for corners, values, count in images]


def problems(
    outputs: Mapping[str, Array], *, images: int, most: int, inside: Inside, noun: str
) -> tuple[Discrepancy, ...]:
    """Return the problems of the outputs for `images` images with at most `most` detections each.

    Values are checked only if shapes and types are right. `noun` is the word for a detection.
    """
    return tuple(_shapes(outputs, images, most)) or tuple(_values(outputs, inside, noun))


def _finding(output: str, text: str) -> Discrepancy:
    return Discrepancy(CHECK, f"{output} {text}", output=output)


def _shapes(outputs: Mapping[str, Array], images: int, most: int) -> Iterator[Discrepancy]:
    shapes = {BOXES: (images, most, 4), SCORES: (images, most), COUNT: (images,)}
    for name, shape in shapes.items():
        if name not in outputs:
            yield _finding(name, "is missing")
            continue
        if outputs[name].shape != shape:
            yield _finding(name, f"has shape {outputs[name].shape}, expected {shape}")
        if outputs[name].dtype != TYPES[name]:
            yield _finding(name, f"is {outputs[name].dtype}, expected {np.dtype(TYPES[name])}")


def _values(outputs: Mapping[str, Array], inside: Inside, noun: str) -> Iterator[Discrepancy]:
    boxes, scores, counts = (outputs[name] for name in OUTPUTS)
    for name, array in ((BOXES, boxes), (SCORES, scores)):
        if count := np.count_nonzero(~np.isfinite(array)):
            yield _finding(name, f"has {count} values that are not finite")
    most = scores.shape[1]
    if ((counts < 0) | (counts > most)).any():
        yield _finding(COUNT, f"is {', '.join(map(str, counts.tolist()[:4]))}, expected 0 to {most}")
        return
    counted = np.arange(most) < counts[:, None]
    for name, filled in ((BOXES, (boxes != 0).any(axis=2)), (SCORES, scores != 0)):
        if count := np.count_nonzero(filled & ~counted):
            yield _finding(name, f"has {count} rows behind the last {noun} that are not zero")
    # If the count is too high, it includes a row of zeros, whose score is below the threshold.
    if low := np.count_nonzero(counted & ~(scores >= np.float32(inside.score_threshold))):
        yield _finding(SCORES, f"has {low} {noun}s below the threshold of {inside.score_threshold:g}")
    if np.any(counted[:, 1:] & (scores[:, 1:] > scores[:, :-1])):
        yield _finding(SCORES, "is not in descending order")
