"""Non-maximum suppression of rows that hold boxes with scores and classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, MAX_INTEGER, Attributes
from sshconvert.onnx.ranking import MOST_CANDIDATES, best_places, gather_rows, numbers, ranks, row_count
from sshconvert.operators.base import Operator, need
from sshconvert.operators.boxes import CENTER, COORDINATES, CORNER, FORMATS, corners, overlap_matrix
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# Pairs of candidates that are compared by class: of one image, and of several images at once.
MOST_PAIRS: Final = 1 << 23
MOST_AT_ONCE: Final = 1 << 22


@register
@dataclass(frozen=True)
class BoxSuppression(Operator):
    """The rows of boxes that no better row suppresses, the best first, then rows of -1.

    A row is a candidate if its score is above `least`, and its class is not `background`. The `most` best candidates
    of an image count. From the best on, each suppresses later ones of its class that overlap it by more than
    `overlap`. Among equal scores, the first row comes first.

    MXNet compares in float32, and so does `evaluate`. Boxes with a negative `xmin` or `x` keep their format.
    """

    name = "_contrib_box_nms"
    aliases = ("_contrib_box_non_maximum_suppression",)
    restrictions = (
        f"`overlap_thresh` is not negative. At most {math.isqrt(MOST_PAIRS)} candidates of an image have classes. "
        "Overlaps of boxes in the format `center` may round differently at the threshold."
    )

    overlap: float
    least: float
    most: int  # negative for all
    coordinates: int  # the column of the first coordinate
    score: int  # the column of the score
    classes: int  # the column of the class; negative for none
    background: int
    force: bool  # candidates suppress those of other classes too
    source: str  # the format of the input's boxes
    target: str  # the format of the output's boxes

    @classmethod
    def read(cls, attributes: Attributes) -> BoxSuppression:
        return cls(
            overlap=attributes.number("overlap_thresh", 0.5),
            least=attributes.number("valid_thresh", 0, least=-MAX_FLOAT32),
            most=attributes.integer("topk", -1, least=-MAX_INTEGER),
            coordinates=attributes.integer("coord_start", 2),
            score=attributes.integer("score_index", 1),
            classes=attributes.integer("id_index", -1, least=-MAX_INTEGER),
            background=attributes.integer("background_id", -1, least=-MAX_INTEGER),
            force=attributes.boolean("force_suppress", default=False),
            source=attributes.choice("in_format", FORMATS, CORNER),
            target=attributes.choice("out_format", FORMATS, CORNER),
        )

    @property
    def by_class(self) -> bool:
        return self.classes >= 0 and not self.force

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (data,) = inputs
        need(len(data) >= 2, f"boxes have the shape (…, boxes, columns), not {data}")
        columns = {"coord_start": self.coordinates, "score_index": self.score}
        if self.classes >= 0:
            columns["id_index"] = self.classes
        used = [*range(self.coordinates, self.coordinates + COORDINATES), self.score]
        used += [self.classes] if self.classes >= 0 else []
        need(max(used) < data[-1] and len({*used}) == len(used), f"{columns} do not fit {data[-1]} columns")
        return (data,)

    def candidates(self, boxes: int) -> int:
        """Return the largest number of candidates of an image."""
        return boxes if self.most < 0 else min(boxes, self.most)

    def flops(self, *inputs: Shape) -> float:
        return float(self.candidates(inputs[0][-2]))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        (data,) = inputs
        if self.most == 0:
            return (data,)
        outputs = np.full(data.shape, -1.0)
        for output, rows in zip(outputs.reshape(-1, *data.shape[-2:]), data.reshape(-1, *data.shape[-2:]), strict=True):
            kept = rows[self._survivors(rows.astype(np.float32))]
            output[: len(kept)] = self._converted(kept)
        return (outputs,)

    def _survivors(self, rows: Array) -> list[int]:
        """Return the numbers of the rows that remain, the best first."""
        scores = rows[:, self.score]
        good = scores > np.float32(self.least)
        if self.classes >= 0:
            good &= rows[:, self.classes] != self.background
        places = np.flatnonzero(good)
        places = places[np.argsort(-scores[places], kind="stable")][: self.candidates(len(rows))]
        boxes = rows[places, self.coordinates : self.coordinates + COORDINATES]
        classes = rows[places, self.classes].astype(np.int64) if self.by_class else np.zeros(len(places))
        return [int(places[number]) for number in survivors(boxes, classes, self.overlap, self.source)]

    def _converted(self, rows: Array) -> Array:
        if self.source == self.target:
            return rows
        boxes = rows[:, self.coordinates : self.coordinates + COORDINATES]
        if self.target == CORNER:
            converted = np.concatenate(corners(boxes, CENTER), axis=1)
        else:
            low, high = corners(boxes, CORNER)
            converted = np.concatenate([(low + high) / 2, high - low], axis=1)
        rows = rows.copy()
        rows[:, self.coordinates : self.coordinates + COORDINATES] = np.where(boxes[:, :1] < 0, boxes, converted)
        return rows

    def emit(self, build: NodeBuilder) -> None:
        """Emit the suppression by NonMaxSuppression, which all runtimes compute in the same order."""
        if self.most == 0:
            build.finish("Identity", build.inputs)
            return
        data = self._batch(build)
        least = build.floats("least", self.least)
        scores = self._scores(build, data, least)
        boxes, is_free = build.input_shapes[0][-2], build.free_input()[-2]
        is_limited = self.most > 0 and (self.most < boxes or is_free)
        rows = data
        count = row_count(build, scores, "candidates") if is_free else build.integers("candidates", (boxes,))
        if is_limited:
            most = max(shape[-2] for shape in (*build.input_shapes, *build.larger_input_shapes))
            need(most <= MOST_CANDIDATES, f"{most} boxes are more than {MOST_CANDIDATES}")
            number = build.integers("most", (self.most,))
            if is_free:
                number = build.node("number", "Min", [count, number])
            places = best_places(build, scores, count, number, "best")
            rows, scores = (
                gather_rows(build, values, places, role) for role, values in (("rows", data), ("best_scores", scores))
            )
            count = number
        order = self._ranks(build, rows, scores, count, least)
        ordered, places = build.split("order", "TopK", [order, count], 2, axis=1)
        is_there = build.node("is_there", "Greater", [ordered, build.floats("no_rank", 0)])
        mask = build.node("mask", "Unsqueeze", [is_there, build.integers("last_axis", (2,))])
        nothing = build.floats("nothing", -1)
        kept = build.node("kept", "Where", [mask, gather_rows(build, rows, places, "ordered"), nothing])
        if self.source != self.target:
            kept = self._other_format(build, kept)
        if is_limited:
            behind = [build.integers(f"rest_{role}", (value,)) for role, value in (("end", MAX_INTEGER), ("axis", 1))]
            rest = build.node("rest", "Slice", [data, count, *behind])
            never = build.node("never", "Greater", [rest, rest])
            kept = build.node("all", "Concat", [kept, build.node("padding", "Where", [never, rest, nothing])], axis=1)
        self._finish(build, kept)

    def _batch(self, build: NodeBuilder) -> str:
        """Emit the rows with one axis of images: [N, boxes, columns]."""
        *leading, boxes, columns = build.input_shapes[0]
        if len(leading) == 1:
            return build.inputs[0]
        if not leading:
            return build.node("data", "Unsqueeze", [build.inputs[0], build.integers("image_axis", (0,))])
        need(not build.free_input()[-2], "needs a fixed size")
        return build.node("data", "Reshape", [build.inputs[0], build.integers("data_shape", (-1, boxes, columns))])

    @staticmethod
    def _finish(build: NodeBuilder, kept: str) -> None:
        """Emit the output in the shape of the input."""
        rank = len(build.input_shapes[0])
        if rank == 2:
            build.finish("Squeeze", [kept, build.integers("images", (0,))])
        elif rank == 3:
            build.finish("Identity", [kept])
        else:
            build.finish("Reshape", [kept, build.node("data_sizes", "Shape", build.inputs)])

    def _scores(self, build: NodeBuilder, data: str, least: str) -> str:
        """Emit the scores [N, boxes], `least` for rows that are no candidates."""
        values = build.node("values", "Gather", [data, build.integers("score", self.score)], axis=2)
        scores = build.node("scores", "Where", [build.node("is_good", "Greater", [values, least]), values, least])
        if self.classes < 0:
            return scores
        classes = build.node("classes", "Gather", [data, build.integers("class", self.classes)], axis=2)
        is_background = build.node("is_background", "Equal", [classes, build.floats("background", self.background)])
        return build.node("foreground", "Where", [is_background, least, scores])

    def _ranks(self, build: NodeBuilder, rows: str, scores: str, count: str, least: str) -> str:
        """Emit the rank of each candidate [N, K], 0 for those that are suppressed."""
        nothing = build.cast("nothing_yet", build.node("never_better", "Greater", [scores, scores]))
        boxes = self._boxes(build, rows)
        points = build.cast("points", build.node("never_wide", "Greater", [boxes, boxes]))
        boxes = boxes if self.overlap < 1 else points
        axis = build.integers("class_axis", (1,))
        overlap = build.floats("overlap", [threshold_near(self.overlap, above=True)])
        worst = build.floats("least_score", [self.least])
        if not self.by_class:
            one = build.node("one_class", "Unsqueeze", [scores, axis])
            selected = build.node("selected", "NonMaxSuppression", [boxes, one, count, overlap, worst])
            return ranks(build, selected, nothing)
        found = self._by_class(build, (rows, scores, boxes, nothing), (count, overlap, worst), least)
        remains = build.node("remains", "Greater", [found, nothing])
        # A second suppression, of boxes without an area, sorts what remains of all classes.
        remaining = build.node("remaining", "Where", [remains, scores, least])
        one = build.node("one_class", "Unsqueeze", [remaining, axis])
        return ranks(build, build.node("sorted", "NonMaxSuppression", [points, one, count, overlap, worst]), nothing)

    def _boxes(self, build: NodeBuilder, rows: str) -> str:
        """Emit the corners [N, K, 4] of boxes, without a width or height where it is negative."""
        columns = build.integers("coordinates", np.arange(COORDINATES) + self.coordinates)
        boxes = build.node("boxes", "Gather", [rows, columns], axis=2)
        low, high = build.split("low", "Split", [boxes, build.integers("halves", (2, 2))], 2, axis=2)
        if self.source == CENTER:
            half = build.node("half", "Mul", [high, build.floats("by_half", 0.5)])
            half = build.node("reach", "Max", [half, build.floats("no_size", 0)])
            low, high = (build.node(role, name, [low, half]) for role, name in (("first", "Sub"), ("end", "Add")))
        return build.node("corners", "Concat", [low, build.node("high", "Max", [low, high])], axis=2)

    def _by_class(self, build: NodeBuilder, tensors: Sequence[str], limits: Sequence[str], least: str) -> str:
        """Emit the ranks of the candidates in their classes [N, K], for as many images at once as memory permits."""
        images, candidates = math.prod(build.input_shapes[0][:-2]), self.candidates(build.input_shapes[0][-2])
        need(candidates**2 <= MOST_PAIRS, f"{candidates} candidates by class are too many; end before it (--outputs)")
        at_once = max(1, MOST_AT_ONCE // candidates**2)
        if images <= at_once:
            return self._ranks_by_class(build, tensors, limits, least)
        need(not any(build.free_input()[:-2]), "needs a fixed size")
        sizes = [min(at_once, images - first) for first in range(0, images, at_once)]
        lengths = build.integers("images_at_once", sizes)
        parts = [build.split(f"{tensor}_part", "Split", [tensor, lengths], len(sizes), axis=0) for tensor in tensors]
        found = [self._ranks_by_class(build, part, limits, least) for part in zip(*parts, strict=True)]
        return build.node("found", "Concat", found, axis=0)

    def _ranks_by_class(self, build: NodeBuilder, tensors: Sequence[str], limits: Sequence[str], least: str) -> str:
        rows, scores, boxes, nothing = tensors
        by_class = self._class_scores(build, rows, scores, limits[0], least)
        return ranks(build, build.node("chosen", "NonMaxSuppression", [boxes, by_class, *limits]), nothing, "class_")

    def _class_scores(self, build: NodeBuilder, rows: str, scores: str, count: str, least: str) -> str:
        """Emit the scores of each class [N, K, K]; the number of a class is that of its first candidate."""
        axes = [build.integers(f"{role}_axis", (value,)) for role, value in (("row", 1), ("column", 2))]
        classes = build.node("row_classes", "Gather", [rows, build.integers("class_column", self.classes)], axis=2)
        whole = build.cast("whole_classes", classes, np.int32)  # MXNet cuts the fraction off
        across, down = (
            build.node(f"class_{role}", "Unsqueeze", [whole, axis]) for role, axis in zip("xy", axes, strict=True)
        )
        number = numbers(build, count, "class")
        column = build.node("class_numbers", "Unsqueeze", [number, build.integers("number_axis", (1,))])
        is_same = build.node("is_same", "Equal", [across, down])
        same = build.node("same", "Where", [is_same, column, build.cast("behind", count)])
        own = build.node("own_class", "ReduceMin", [same], axes=[1], keepdims=1)
        is_own = build.node("is_own", "Equal", [own, column])
        return build.node(
            "class_scores", "Where", [is_own, build.node("score_row", "Unsqueeze", [scores, axes[0]]), least]
        )

    def _other_format(self, build: NodeBuilder, rows: str) -> str:
        """Emit the rows in the output's format, except those with a negative first coordinate."""
        before, behind = self.coordinates, build.input_shapes[0][-1] - self.coordinates - COORDINATES
        sizes = [size for size in (before, 2, 2, behind) if size]
        parts = build.split("parts", "Split", [rows, build.integers("part_sizes", sizes)], len(sizes), axis=2)
        at, half = slice(bool(before), bool(before) + 2), build.floats("a_half", 0.5)
        low, high = parts[at]
        if self.target == CENTER:
            middle = build.node("middle", "Mul", [build.node("twice", "Add", [low, high]), half])
            converted = [middle, build.node("extent", "Sub", [high, low])]
        else:
            reach = build.node("half_extent", "Mul", [high, half])
            converted = [build.node(role, name, [low, reach]) for role, name in (("upper", "Sub"), ("lower", "Add"))]
        left = build.node("left", "Gather", [low, build.integers("first_column", (0,))], axis=2)
        is_outside = build.node("is_outside", "Greater", [build.floats("border", 0), left])
        parts[at] = [
            build.node(f"{role}_part", "Where", [is_outside, old, new])
            for role, old, new in zip(("first", "second"), (low, high), converted, strict=True)
        ]
        return build.node("formatted", "Concat", parts, axis=2)


def threshold_near(overlap: float, *, above: bool) -> float:
    """Return the threshold of NonMaxSuppression for suppression above an overlap below 1, or from that overlap on.

    OpenVINO suppresses at the threshold too, ONNX Runtime only above it, and OpenVINO's overlaps differ in the last
    bit. So the threshold is two floats apart: an overlap between is unlikely, an overlap of exactly 1/2 or 1/3 is not.
    """
    threshold = np.float32(overlap)
    for _ in range(2):
        threshold = np.nextafter(threshold, np.float32(above))
    return float(np.clip(threshold, np.finfo(np.float32).tiny, 1))  # OpenVINO takes subnormal numbers for 0


def survivors(boxes: Array, classes: Array, overlap: float, form: str = CORNER, *, above: bool = True) -> list[int]:
    """Return the numbers of the boxes [K, 4], the best first, that no better one of their class suppresses.

    A box suppresses those that it overlaps by more than `overlap`, or, unless `above`, by at least as much.
    """
    remains = np.ones(len(boxes), bool)
    limit = np.float32(overlap)
    for number, box in enumerate(boxes):
        if remains[number]:
            later = number + 1 + np.flatnonzero(remains[number + 1 :] & (classes[number + 1 :] == classes[number]))
            shares = overlap_matrix(box[None], boxes[later], form)[0]
            remains[later[shares > limit if above else shares >= limit]] = False
    return [int(number) for number in np.flatnonzero(remains)]
