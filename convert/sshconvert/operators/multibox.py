"""The detections of an SSD network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, MAX_INTEGER, Attributes
from sshconvert.onnx.ranking import MOST_CANDIDATES, best_places, gather_rows, ranks
from sshconvert.operators.base import Operator, need
from sshconvert.operators.box_nms import survivors, threshold_near
from sshconvert.operators.boxes import COORDINATES
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

COLUMNS: Final = 2 + COORDINATES  # the class, the score and the corners


@register
@dataclass(frozen=True)
class MultiBoxDetection(Operator):
    """Rows of a class, a score and the corners of a box, for each anchor whose best class is not the background.

    The scores are [N, classes, anchors], and class 0 is the background. The rows are sorted by their scores, and a
    suppressed row has the class -1, as those behind the `most` best, which come in the order of the anchors. Without a
    suppression, all rows come in the order of the anchors. Rows of -1 follow.
    """

    name = "_contrib_MultiBoxDetection"
    aliases = ("MultiBoxDetection",)
    inputs = ("cls_prob", "loc_pred", "anchor")
    restrictions = "With a fixed number of anchors."

    clip: bool
    least: float
    overlap: float
    force: bool  # rows suppress those of other classes too
    variances: tuple[float, ...]
    most: int

    @classmethod
    def read(cls, attributes: Attributes) -> MultiBoxDetection:
        attributes.integer("background_id", 0, least=-MAX_INTEGER)  # MXNet does not read it
        return cls(
            clip=attributes.boolean("clip", default=True),
            least=attributes.number("threshold", 0.01, least=-MAX_FLOAT32),
            overlap=attributes.number("nms_threshold", 0.5, least=-MAX_FLOAT32),
            force=attributes.boolean("force_suppress", default=False),
            variances=attributes.numbers("variances", (0.1, 0.1, 0.2, 0.2), length=4),
            most=attributes.integer("nms_topk", -1, least=-MAX_INTEGER),
        )

    @property
    def suppresses(self) -> bool:
        return 0 < self.overlap <= 1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        scores, offsets, anchors = inputs
        need(len(scores) == 3 and scores[1] > 1, f"scores have the shape (N, classes, anchors), not {scores}")
        need(
            offsets == (scores[0], scores[2] * COORDINATES) and anchors == (1, scores[2], COORDINATES),
            f"offsets {offsets} and anchors {anchors} do not fit scores {scores}",
        )
        return ((scores[0], scores[2], COLUMNS),)

    def kept(self, anchors: int) -> int:
        """Return the largest number of rows of an image that count."""
        return min(self.most, anchors) if self.most > 0 else anchors

    def flops(self, *inputs: Shape) -> float:
        return float(self.kept(inputs[0][2]))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        scores, offsets, anchors = inputs
        outputs = np.full(self.output_shapes(*(array.shape for array in inputs))[0], -1.0)
        sizes = anchors[0, :, 2:] - anchors[0, :, :2]
        middles = (anchors[0, :, 2:] + anchors[0, :, :2]) / 2
        variances = np.array(self.variances, np.float32)
        for output, of_classes, moves in zip(
            outputs, scores, offsets.reshape(len(scores), -1, COORDINATES), strict=True
        ):
            scaled = moves * variances
            centres = scaled[:, :2] * sizes + middles
            reach = np.exp(scaled[:, 2:]) * sizes / 2
            boxes = np.concatenate([centres - reach, centres + reach], axis=1)
            boxes = np.clip(boxes, 0, 1) if self.clip else boxes
            classes = of_classes[1:].astype(np.float32).argmax(axis=0)
            best = of_classes[1:].max(axis=0)
            good = np.flatnonzero((best.astype(np.float32) >= np.float32(self.least)) & (best > -1))
            rows = np.concatenate([classes[:, None], best[:, None], boxes], axis=1)[good]
            output[: len(rows)] = self._suppressed(rows) if self.suppresses else rows
        return (outputs,)

    def _suppressed(self, rows: Array) -> Array:
        count = self.kept(len(rows))
        order = np.argsort(-rows[:, 1].astype(np.float32), kind="stable")[:count]
        rows = np.concatenate([rows[order], rows[count:]])
        classes = np.zeros(count) if self.force else rows[:count, 0]
        kept = survivors(rows[:count, 2:].astype(np.float32), classes, self.overlap, above=False)
        rows[np.setdiff1d(np.arange(len(rows)), kept), 0] = -1
        return rows

    def emit(self, build: NodeBuilder) -> None:
        _, classes, anchors = build.input_shapes[0]
        need(not build.free_input()[2], "needs a fixed size")
        need(anchors <= MOST_CANDIDATES, f"{anchors} anchors are more than {MOST_CANDIDATES}")
        best, rows = self._rows(build, classes)
        least = max(self.least, float(np.nextafter(np.float32(-1), np.float32(0))))
        good = build.node("good", "GreaterOrEqual", [best, build.floats("threshold", least)])
        if not self.suppresses:
            build.finish("Identity", [self._in_order(build, rows, good, anchors)])
            return
        count = self.kept(anchors)
        scores = build.node("scores", "Where", [good, best, build.floats("no_score", -1)])
        parts = [self._suppression(build, *self._sorted(build, rows, scores, count, anchors), classes, count)]
        if count < anchors:
            bounds = [
                (role, build.integers(f"rest_{role}", (value,)))
                for role, value in (("from", count), ("to", anchors), ("axis", 1))
            ]
            rest = build.node(
                "rest", "Slice", [self._in_order(build, rows, good, anchors), *(name for _, name in bounds)]
            )
            is_class = build.constant("is_class", np.arange(COLUMNS) == 0)
            parts.append(build.node("rest_rows", "Where", [is_class, build.floats("no_class", -1), rest]))
        build.finish("Concat", parts, axis=1)

    def _rows(self, build: NodeBuilder, classes: int) -> tuple[str, str]:
        """Emit the best score of each anchor [N, A], and the rows [N, A, 6]."""
        scores, offsets, anchors = build.inputs
        parts = build.integers("foreground_parts", (1, classes - 1))
        _, foreground = build.split("background", "Split", [scores, parts], 2, axis=1)
        best = build.node("best", "ReduceMax", [foreground], axes=[1], keepdims=1)
        numbers = build.floats("class_numbers", np.arange(classes - 1)[:, None])
        is_best = build.node("is_best", "Equal", [foreground, best])
        first = build.node("first", "Where", [is_best, numbers, build.floats("no_number", classes)])
        number = build.node("class", "ReduceMin", [first], axes=[1], keepdims=1)
        columns = [
            build.node(f"{role}_column", "Transpose", [row], perm=(0, 2, 1))
            for role, row in (("class", number), ("best", best))
        ]
        halves, half = build.integers("halves", (2, 2)), build.floats("half", 0.5)
        low, high = build.split("anchor_low", "Split", [anchors, halves], 2, axis=2)
        sizes = build.node("sizes", "Sub", [high, low])
        middles = build.node("middles", "Mul", [build.node("ends", "Add", [low, high]), half])
        moves = build.node("moves", "Reshape", [offsets, build.integers("moves_shape", (0, -1, COORDINATES))])
        scaled = build.node("scaled", "Mul", [moves, build.floats("variances", self.variances)])
        shifts, exponents = build.split("shifts", "Split", [scaled, halves], 2, axis=2)
        centres = build.node("centres", "Add", [build.node("shifted", "Mul", [shifts, sizes]), middles])
        grown = build.node("grown", "Mul", [build.node("exp", "Exp", [exponents]), sizes])
        reach = build.node("reach", "Mul", [grown, half])
        boxes = build.node(
            "boxes", "Concat", [build.node(name, name, [centres, reach]) for name in ("Sub", "Add")], axis=2
        )
        if self.clip:
            boxes = build.node("from_0", "Max", [boxes, build.floats("zero", 0)])
            boxes = build.node("to_1", "Min", [boxes, build.floats("one", 1)])
        axis = build.integers("class_axis", (1,))
        return build.node("best_scores", "Squeeze", [best, axis]), build.node(
            "rows", "Concat", [*columns, boxes], axis=2
        )

    @staticmethod
    def _in_order(build: NodeBuilder, rows: str, good: str, anchors: int) -> str:
        """Emit the good rows in the order of the anchors, then rows of -1."""
        group = build.node("group", "Mul", [build.cast("good_float", good), build.floats("anchors", anchors)])
        keys = build.node("keys", "Sub", [group, build.floats("order", np.arange(anchors))])
        found, places = build.split("found", "TopK", [keys, build.integers("all", (anchors,))], 2, axis=1)
        there = build.node("is_there", "Greater", [found, build.floats("no_key", 0)])
        mask = build.node("there", "Unsqueeze", [there, build.integers("mask_axis", (2,))])
        compact = gather_rows(build, rows, places, "compact")
        return build.node("in_order", "Where", [mask, compact, build.floats("nothing", -1)])

    @staticmethod
    def _sorted(build: NodeBuilder, rows: str, scores: str, count: int, anchors: int) -> tuple[str, str]:
        """Emit the best rows [N, K, 6], sorted by their scores, and which of them are there [N, K, 1]."""
        number = build.integers("number", (count,))
        if count < anchors:
            places = best_places(build, scores, build.integers("count", (anchors,)), number, "best")
            rows, scores = (
                gather_rows(build, values, places, role) for role, values in (("top", rows), ("top_scores", scores))
            )
        nothing = build.cast("unsorted", build.node("never_better", "Greater", [scores, scores]))
        # A suppression of boxes without an area sorts: NonMaxSuppression keeps the order of equal scores.
        corners = build.node(
            "of_rows",
            "Slice",
            [
                rows,
                *(
                    build.integers(f"box_{role}", (value,))
                    for role, value in (("from", 2), ("to", COLUMNS), ("axis", 2))
                ),
            ],
        )
        points = build.cast("points", build.node("never_wide", "Greater", [corners, corners]))
        one = build.node("one_class", "Unsqueeze", [scores, build.integers("one_axis", (1,))])
        limits = [build.floats("full_overlap", [1]), build.floats("no_good_score", [-1])]
        order = ranks(
            build, build.node("in_turn", "NonMaxSuppression", [points, one, number, *limits]), nothing, "sort_"
        )
        turns, places = build.split("turns", "TopK", [order, number], 2, axis=1)
        there = build.node("is_sorted", "Greater", [turns, build.floats("no_turn", 0)])
        mask = build.node("sorted_there", "Unsqueeze", [there, build.integers("sorted_axis", (2,))])
        return gather_rows(build, rows, places, "sorted"), mask

    def _suppression(self, build: NodeBuilder, rows: str, there: str, classes: int, count: int) -> str:
        """Emit the sorted rows, the suppressed ones with the class -1."""
        sizes = build.integers("columns", (1, 1, 2, 2))
        number, score, low, high = build.split("row_class", "Split", [rows, sizes], 4, axis=2)
        none = build.floats("none", -1)
        column = build.node("good_scores", "Where", [there, score, none])
        scores, numbers = (
            build.node(f"{role}_row", "Transpose", [values], perm=(0, 2, 1))
            for role, values in (("score", column), ("number", number))
        )
        if not self.force:
            own = build.node("own", "Equal", [numbers, build.floats("numbers", np.arange(classes - 1)[:, None])])
            scores = build.node("scores_by_class", "Where", [own, scores, none])
        boxes = build.node("corners", "Concat", [low, build.node("high", "Max", [low, high])], axis=2)
        limits = [build.floats("overlap", [threshold_near(self.overlap, above=False)]), build.floats("least", [-1])]
        most = build.integers("most", (count,))
        selected = build.node("selected", "NonMaxSuppression", [boxes, scores, most, *limits])
        flat = build.node("flat_scores", "Squeeze", [column, build.integers("flat_axis", (2,))])
        nothing = build.cast("unranked", build.node("never", "Greater", [flat, flat]))
        kept = build.node("is_kept", "Greater", [ranks(build, selected, nothing), nothing])
        mask = build.node("kept", "Unsqueeze", [kept, build.integers("kept_axis", (2,))])
        marked = build.node("marked", "Where", [mask, number, none])
        joined = build.node("joined", "Concat", [marked, score, low, high], axis=2)
        return build.node("suppressed", "Where", [there, joined, none])
