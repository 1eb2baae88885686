"""The outputs of a file with the post-processing inside, in one of two forms.

The plain form. For N images and at most K detections of each, in pixels of the network's input:

- `boxes`: float32 [N, K, 4], x1, y1, x2, y2 with the corner pixels included, best first; zeros after the last
- `scores`: float32 [N, K]
- `count`: int32 [N], the number of detections
- `landmarks`: float32 [N, K, P, 2], x and y of P points of each detection, not clipped, if the task has any
- `attributes`: float32 [N, K, A], in the order of the task's names, if it has any

K is the smaller of `top_k` and the number of candidates.

The form for OpenVINO's Model API, whose `SSD` wrapper reads it, has two outputs in place of the first three:

- `boxes`: float32 [N, K, 5], the plain boxes with their scores behind; zeros after the last
- `labels`: int32 [N, K], the number of each box's label: 0, because all tasks with this form have one

Every score is above 0, so the scores tell the count, and `plain_outputs` restores the plain form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import DetectionError
from sshconvert.graph import Dimensions
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.results import Detections

BOXES: Final = "boxes"
SCORES: Final = "scores"
COUNT: Final = "count"
LABELS: Final = "labels"
LANDMARKS: Final = "landmarks"
ATTRIBUTES: Final = "attributes"
OUTPUTS: Final = (BOXES, SCORES, COUNT)  # of every task

CHECK: Final = "faces"  # the name of the check in reports
NODES: Final = "faces_"  # the beginning of the names of inner tensors
POSTPROCESSING: Final = "post-processing"  # that of the test apart from the network
# The problem of results that are not compared, because findings of that check describe their problems.
NOT_DECODED: Final = "the faces are not what they have to be"


class OutputForm(StrEnum):
    """The form of the outputs."""

    PLAIN = "plain"
    MODEL_API = "model-api"


@dataclass(frozen=True)
class Inside:
    """The post-processing inside a file: its thresholds, the largest number of detections of an image, and its form."""

    score_threshold: float
    iou_threshold: float
    top_k: int
    form: OutputForm = OutputForm.PLAIN


@dataclass(frozen=True)
class Columns:
    """What each detection of a task has beside box and score: a number of landmarks, and named attributes."""

    points: int = 0
    attributes: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in their order."""
        return tuple(self.shapes(0, 0))

    def shapes(self, images: int | str, most: int | str) -> dict[str, Dimensions]:
        """Return the shape of each output, for at most `most` detections an image. A text stands for any number."""
        shapes: dict[str, Dimensions] = {BOXES: (images, most, 4), SCORES: (images, most), COUNT: (images,)}
        if self.points:
            shapes[LANDMARKS] = (images, most, self.points, 2)
        if self.attributes:
            shapes[ATTRIBUTES] = (images, most, len(self.attributes))
        return shapes


def in_form(names: Sequence[str], form: OutputForm) -> tuple[str, ...]:
    """Return the names of the outputs in a form; `names` are those of the plain form."""
    if form is OutputForm.PLAIN:
        return tuple(names)
    return (BOXES, LABELS, *(name for name in names if name not in OUTPUTS))


def plain_outputs(outputs: Mapping[str, Array], form: OutputForm) -> dict[str, Array]:
    """Return the outputs of a file in the plain form. Other outputs stay.

    Raises DetectionError if they are not in this form.
    """
    if form is OutputForm.PLAIN:
        return dict(outputs)
    boxes, labels = (outputs.get(name, np.zeros(0)) for name in (BOXES, LABELS))
    if boxes.ndim != 3 or boxes.shape[2] != 5 or labels.shape != boxes.shape[:2]:
        raise DetectionError(
            f"the outputs {BOXES} {boxes.shape} and {LABELS} {labels.shape} are not [N, K, 5] and [N, K]"
        )
    if labels.dtype != np.int32 or labels.any():
        raise DetectionError(f"the output {LABELS}, {labels.dtype}, is not int32 and 0 everywhere")
    scores = np.ascontiguousarray(boxes[..., 4])
    counts = np.count_nonzero(scores, axis=1).astype(np.int32)
    others = {name: values for name, values in outputs.items() if name not in (BOXES, LABELS)}
    return {BOXES: np.ascontiguousarray(boxes[..., :4]), SCORES: scores, COUNT: counts, **others}


def detections_of(outputs: Mapping[str, Array], columns: Columns) -> list[Detections]:
    """The detections of each image. Raises DetectionError if the outputs are others."""
    boxes, scores, counts = (outputs.get(name, np.zeros(0)) for name in OUTPUTS)
    shapes = columns.shapes(*boxes.shape[:2]) if boxes.ndim > 1 else columns.shapes(0, 0)
    fits = all(name in outputs and outputs[name].shape == shape for name, shape in shapes.items())
    fits = fits and counts.dtype.kind in "iu"
    if not fits or ((counts < 0) | (counts > scores.shape[1])).any():
        forms = (f"[{', '.join(map(str, shape))}]" for shape in columns.shapes("N", "K").values())
        raise DetectionError(f"the outputs are not {', '.join(shapes)}: {', '.join(forms)}; count is 0 to K")
    names = ("boxes", "scores", LANDMARKS, ATTRIBUTES)
    return [
        Detections(**{name: outputs[name][image, :count] for name in names if name in shapes})
        for image, count in enumerate(counts.tolist())
    ]


def problems(
    outputs: Mapping[str, Array],
    *,
    images: int,
    most: int,
    inside: Inside,
    noun: str,
    columns: Columns = Columns(),  # frozen
) -> tuple[Discrepancy, ...]:
    """Return the problems of the outputs for `images` images with at most `most` detections each.

    Values are checked only if shapes and types are right. `noun` is the word for a detection.
    """
    found = tuple(_shapes(outputs, columns.shapes(images, most)))
    return found or tuple(_values(outputs, columns, inside, noun))


def _type(output: str) -> type:
    return np.int32 if output == COUNT else np.float32


def _finding(output: str, text: str) -> Discrepancy:
    return Discrepancy(CHECK, f"{output} {text}", output=output)


def _shapes(outputs: Mapping[str, Array], shapes: Mapping[str, Dimensions]) -> Iterator[Discrepancy]:
    for name, shape in shapes.items():
        if name not in outputs:
            yield _finding(name, "is missing")
            continue
        if outputs[name].shape != shape:
            yield _finding(name, f"has shape {outputs[name].shape}, expected {shape}")
        if outputs[name].dtype != _type(name):
            yield _finding(name, f"is {outputs[name].dtype}, expected {np.dtype(_type(name))}")


def _values(outputs: Mapping[str, Array], columns: Columns, inside: Inside, noun: str) -> Iterator[Discrepancy]:
    scores, counts = outputs[SCORES], outputs[COUNT]
    by_row = {name: outputs[name] for name in columns.outputs if name != COUNT}
    for name, array in by_row.items():
        if count := np.count_nonzero(~np.isfinite(array)):
            yield _finding(name, f"has {count} values that are not finite")
    most = scores.shape[1]
    if ((counts < 0) | (counts > most)).any():
        yield _finding(COUNT, f"is {', '.join(map(str, counts.tolist()[:4]))}, expected 0 to {most}")
        return
    counted = np.arange(most) < counts[:, None]
    for name, array in by_row.items():
        filled = (array.reshape(len(array), most, -1) != 0).any(axis=2)
        if count := np.count_nonzero(filled & ~counted):
            yield _finding(name, f"has {count} rows behind the last {noun} that are not zero")
    # If the count is too high, it includes a row of zeros, whose score is below the threshold.
    if low := np.count_nonzero(counted & ~(scores >= np.float32(inside.score_threshold))):
        yield _finding(SCORES, f"has {low} {noun}s below the threshold of {inside.score_threshold:g}")
    if np.any(counted[:, 1:] & (scores[:, 1:] > scores[:, :-1])):
        yield _finding(SCORES, "is not in descending order")
