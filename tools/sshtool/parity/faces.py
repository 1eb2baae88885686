"""The three outputs of a file that gives faces itself: whether they are what such a file has to give.

What is wrong here is wrong whatever the original says. `sshconvert.tasks.postprocessing` says what the outputs are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.contract import FacesInside
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.postprocessing import BOXES, COUNT, SCORES

TYPES: Final[Mapping[str, type]] = {BOXES: np.float32, SCORES: np.float32, COUNT: np.int32}


@dataclass(frozen=True)
class FacesProblem:
    """Something that is wrong with one of the outputs, in words."""

    output: str
    text: str


def most_faces(heads: Mapping[str, Array], rules: AnchorDetection, inside: FacesInside) -> int:
    """K: how many rows `boxes` and `scores` have for each image, for head tensors of that size."""
    anchors = (len(head.sizes) * int(np.prod(heads[head.scores].shape[2:])) for head in rules.heads)
    return min(inside.top_k, sum(min(number, rules.candidates_per_stride or number) for number in anchors))


def faces_problems(
    found: Mapping[str, Array], *, images: int, most: int, inside: FacesInside
) -> tuple[FacesProblem, ...]:
    """All that is wrong with the outputs for that many images, at most `most` faces each; () if nothing is.

    Where a shape or a type is wrong, values are not looked at.
    """
    return tuple(_shapes(found, images, most)) or tuple(_values(found, inside))


def _shapes(found: Mapping[str, Array], images: int, most: int) -> Iterator[FacesProblem]:
    shapes = {BOXES: (images, most, 4), SCORES: (images, most), COUNT: (images,)}
    for name, shape in shapes.items():
        if name not in found:
            yield FacesProblem(name, "is missing")
            continue
        if found[name].shape != shape:
            yield FacesProblem(name, f"has shape {found[name].shape}, expected {shape}")
        if found[name].dtype != TYPES[name]:
            yield FacesProblem(name, f"is {found[name].dtype}, expected {np.dtype(TYPES[name])}")


def _values(found: Mapping[str, Array], inside: FacesInside) -> Iterator[FacesProblem]:
    boxes, scores, counts = (found[name] for name in (BOXES, SCORES, COUNT))
    for name, array in ((BOXES, boxes), (SCORES, scores)):
        if number := np.count_nonzero(~np.isfinite(array)):
            yield FacesProblem(name, f"has {number} values that are not finite")
    most = scores.shape[1]
    if ((counts < 0) | (counts > most)).any():
        yield FacesProblem(COUNT, f"is {_few(counts)}, expected 0 to {most}")
        return
    is_face = np.arange(most) < counts[:, None]
    for name, filled in ((BOXES, (boxes != 0).any(axis=2)), (SCORES, scores != 0)):
        if number := np.count_nonzero(filled & ~is_face):
            yield FacesProblem(name, f"has {number} rows behind the last face that are not zero")
    # A face of count + 1 would be a row of zeros.
    if low := np.count_nonzero(is_face & ~(scores >= np.float32(inside.score_threshold))):
        yield FacesProblem(SCORES, f"has {low} faces below the threshold of {inside.score_threshold:g}")
    if np.any(is_face[:, 1:] & (scores[:, 1:] > scores[:, :-1])):
        yield FacesProblem(SCORES, "is not in descending order")


def _few(counts: Array) -> str:
    return ", ".join(map(str, counts.tolist()[:4]))
