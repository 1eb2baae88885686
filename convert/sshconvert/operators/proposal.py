"""The regions that a region proposal network proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.onnx.ranking import MOST_CANDIDATES, best_places, gather_rows, ranks
from sshconvert.operators.base import Operator, need
from sshconvert.operators.box_nms import survivors, threshold_near
from sshconvert.operators.boxes import COORDINATES
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

LOWEST: Final = -3e38  # below every score


@register
@dataclass(frozen=True)
class MultiProposal(Operator):
    """The `count` best regions of each image, and their scores: rows of the image's number and the corners.

    The scores are [N, 2 * anchors, H, W], those of the background first, and each row of `im_info` is an image's
    height, width and scale. A corner belongs to the region, so it is `last - first + 1` pixels wide. A region outside
    the image's cells, or smaller than `least_size` at the image's scale, has the score -1 (and the latter grows by half
    that size on each side). A region suppresses later ones that it overlaps by more than `overlap`. If too few remain,
    they are repeated in their order. Among equal scores, the first cell and anchor comes first; MXNet sorts them
    in any order.
    """

    name = "_contrib_MultiProposal"
    aliases = ("MultiProposal",)
    inputs = ("cls_prob", "bbox_pred", "im_info")
    restrictions = "With a fixed height and width. Overlaps may round differently at the threshold."

    candidates: int  # before the suppression; 0 or less for all
    count: int
    overlap: float
    least_size: int
    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    stride: int
    has_scores: bool
    moves_corners: bool  # the offsets move the corners instead of the centre and the size

    @classmethod
    def read(cls, attributes: Attributes) -> MultiProposal:
        return cls(
            candidates=attributes.integer("rpn_pre_nms_top_n", 6000, least=-MAX_INTEGER),
            count=attributes.integer("rpn_post_nms_top_n", 300, least=1),
            overlap=attributes.number("threshold", 0.7),
            least_size=attributes.integer("rpn_min_size", 16),
            scales=attributes.numbers("scales", (4.0, 8.0, 16.0, 32.0), least=1e-30),
            ratios=attributes.numbers("ratios", (0.5, 1.0, 2.0), least=1e-30),
            stride=attributes.integer("feature_stride", 16, least=1),
            has_scores=attributes.boolean("output_score", default=False),
            moves_corners=attributes.boolean("iou_loss", default=False),
        )

    def output_names(self) -> tuple[str, ...]:
        return ("output", "score") if self.has_scores else ("output",)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) == 4, f"scores are NCHW, not {data}")
        return ((data[0], 2 * data[1], *data[2:]), (data[0], 3))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        channels, anchors = inputs[0][1], len(self.scales) * len(self.ratios)
        need(channels == 2 * anchors, f"{channels} channels of scores do not fit {anchors} anchors")
        rows = inputs[0][0] * self.count
        return ((rows, 5), (rows, 1)) if self.has_scores else ((rows, 5),)

    def best(self, regions: int) -> int:
        """Return the number of candidates of an image."""
        return min(self.candidates, regions) if self.candidates > 0 else regions

    def flops(self, *inputs: Shape) -> float:
        return float(self.best(inputs[0][1] // 2 * inputs[0][2] * inputs[0][3]))

    def anchors(self, height: int, width: int) -> Array:
        """Return the anchors of each cell [H * W * anchors, 4], in float32."""
        one, half = np.float32(1), np.float32(0.5)
        middle = half * np.float32(self.stride - 1)
        area = np.float32(self.stride) * np.float32(self.stride)
        sizes = []
        for ratio in np.array(self.ratios, np.float32):
            across = np.floor(np.sqrt(np.floor(area / ratio)) + half)
            for scale in np.array(self.scales, np.float32):
                wide = across * scale
                sizes.append((wide, np.floor(wide / scale * ratio + half) * scale))
        reach = half * (np.array(sizes, np.float32) - one)
        cell = np.concatenate([middle - reach, middle + reach], axis=1)
        shifts = self.cells(height, width)[:, [1, 0, 1, 0]] * np.float32(self.stride)
        anchors: Array = (shifts + np.tile(cell, (height * width, 1))).astype(np.float32)
        return anchors

    def cells(self, height: int, width: int) -> Array:
        """Return the row and the column of the cell of each anchor: float32 [H * W * anchors, 2]."""
        rows, columns = np.mgrid[:height, :width].reshape(2, -1)
        cells = np.stack([rows, columns], axis=1).astype(np.float32)
        return np.repeat(cells, len(self.scales) * len(self.ratios), axis=0)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        scores, offsets, images = inputs
        number, anchors = scores.shape[1] // 2, self.anchors(*scores.shape[2:]).astype(np.float64)
        outputs, best = [], []
        for image, (height, width, scale) in enumerate(images.astype(np.float32)):
            of_cells = scores[image, number:].transpose(1, 2, 0).ravel()
            moves = offsets[image].reshape(number, COORDINATES, *scores.shape[2:]).transpose(2, 3, 0, 1)
            low, high = self._moved(anchors, moves.reshape(-1, COORDINATES))
            last = np.array((width, height)) - np.float32(1)
            low, high = (np.maximum(np.minimum(corner, last), 0) for corner in (low, high))
            least = np.float32(self.least_size) * scale
            is_small = (high - low + 1 < least).any(axis=1)
            low, high = low - is_small[:, None] * (least / 2), high + is_small[:, None] * (least / 2)
            inside = np.array((height, width)) / np.float32(self.stride)
            is_outside = (self.cells(*scores.shape[2:]) >= np.trunc(inside)).any(axis=1)
            of_cells = np.where(is_small | is_outside, -1, of_cells)
            order = np.argsort(-of_cells.astype(np.float32), kind="stable")[: self.best(len(of_cells))]
            boxes = np.concatenate([low, high + 1], axis=1)[order].astype(np.float32)
            kept = order[survivors(boxes, np.zeros(len(boxes)), self.overlap)][: self.count]
            kept = kept[np.arange(self.count) % len(kept)]
            outputs.append(np.concatenate([np.full((self.count, 1), image), low[kept], high[kept]], axis=1))
            best.append(of_cells[kept, None])
        regions = np.concatenate(outputs)
        return (regions, np.concatenate(best)) if self.has_scores else (regions,)

    def _moved(self, anchors: Array, moves: Array) -> tuple[Array, Array]:
        """Return the first and the last pixels of the regions."""
        low, high = anchors[:, :2], anchors[:, 2:]
        if self.moves_corners:
            return low + moves[:, :2], high + moves[:, 2:]
        sizes = high - low + 1
        centres = moves[:, :2] * sizes + low + (sizes - 1) / 2
        reach = (np.exp(moves[:, 2:]) * sizes - 1) / 2
        return centres - reach, centres + reach

    def emit(self, build: NodeBuilder) -> None:
        _, channels, height, width = build.input_shapes[0]
        need(not any(build.free_input()[1:]), "needs a fixed size")
        regions = channels // 2 * height * width
        need(regions <= MOST_CANDIDATES, f"{regions} regions are more than {MOST_CANDIDATES}")
        rows, scores = self._rows(build, channels // 2, height, width)
        best = self.best(regions)
        if best < regions:
            number = build.integers("best", (best,))
            places = best_places(build, scores, build.integers("regions", (regions,)), number, "top")
            rows, scores = (
                gather_rows(build, values, places, role) for role, values in (("rows", rows), ("scores", scores))
            )
        chosen = self._chosen(build, rows, scores, min(self.count, best))
        image, score, corners = self._parts(build, chosen)
        flat = build.node("regions", "Concat", [image, corners], axis=2)
        outputs = [(flat, 5), (score, 1)][: len(build.outputs)]
        for name, (tensor, columns) in zip(build.outputs, outputs, strict=True):
            build.output(name, "Reshape", [tensor, build.integers(f"shape_of_{columns}", (-1, columns))])

    def _rows(self, build: NodeBuilder, number: int, height: int, width: int) -> tuple[str, str]:
        """Emit the score and the corners of each region [N, R, 5], and the scores [N, R]."""
        images = build.node("images", "Unsqueeze", [build.inputs[2], build.integers("image_axis", (1,))])
        sizes, scale = build.split("sizes", "Split", [images, build.integers("info", (2, 1))], 2, axis=2)
        _, foreground = build.split(
            "background", "Split", [build.inputs[0], build.integers("kinds", (number, number))], 2, axis=1
        )
        scores = build.node("by_cell", "Transpose", [foreground], perm=(0, 2, 3, 1))
        scores = build.node("cell_scores", "Reshape", [scores, build.integers("column", (0, -1, 1))])
        shape = build.integers("offset_shape", (0, number, COORDINATES, height, width))
        offsets = build.node("offsets", "Reshape", [build.inputs[1], shape])
        offsets = build.node("cell_offsets", "Transpose", [offsets], perm=(0, 3, 4, 1, 2))
        offsets = build.node("offset_rows", "Reshape", [offsets, build.integers("offset_row", (0, -1, COORDINATES))])
        one, zero, half = build.floats("one", 1), build.floats("zero", 0), build.floats("half", 0.5)
        ends = self._emit_moved(build, offsets, self.anchors(height, width), one, half)
        swapped = build.node("last_sizes", "Gather", [sizes, build.integers("swapped", (1, 0))], axis=2)
        last = build.node("last_pixel", "Sub", [swapped, one])
        low, high = (
            build.node(f"{role}_inside", "Max", [build.node(f"{role}_before", "Min", [end, last]), zero])
            for role, end in zip(("low", "high"), ends, strict=True)
        )
        least = build.node("least_size", "Mul", [scale, build.floats("least", self.least_size)])
        extent = build.node("extent", "Add", [build.node("reach", "Sub", [high, low]), one])
        small = build.cast("small", build.node("is_small", "Greater", [least, extent]))
        small = build.node("any_small", "ReduceMax", [small], axes=[2], keepdims=1)
        growth = build.node("growth", "Mul", [small, build.node("half_least", "Mul", [least, half])])
        low, high = (
            build.node(f"{role}_grown", name, [end, growth])
            for role, name, end in (("low", "Sub", low), ("high", "Add", high))
        )
        cells = build.node("cells", "Div", [sizes, build.floats("stride", self.stride)])
        whole = build.cast("whole_cells_float", build.cast("whole_cells", cells, np.int64))
        places = build.floats("places", self.cells(height, width))
        outside = build.cast("outside", build.node("is_outside", "GreaterOrEqual", [places, whole]))
        outside = build.node("any_outside", "ReduceMax", [outside], axes=[2], keepdims=1)
        bad = build.node("is_bad", "Greater", [build.node("bad", "Max", [small, outside]), zero])
        scores = build.node("good_scores", "Where", [bad, build.floats("bad_score", -1), scores])
        rows = build.node("all_rows", "Concat", [scores, low, high], axis=2)
        return rows, build.node("all_scores", "Squeeze", [scores, build.integers("score_axis", (2,))])

    def _emit_moved(self, build: NodeBuilder, offsets: str, anchors: Array, one: str, half: str) -> tuple[str, str]:
        """Emit the first and the last pixels of the regions [N, R, 2]."""
        halves = build.integers("halves", (2, 2))
        moves, others = build.split("moves", "Split", [offsets, halves], 2, axis=2)
        low, high = anchors[:, :2], anchors[:, 2:]
        if self.moves_corners:
            return (
                build.node("low", "Add", [build.floats("anchor_low", low), moves]),
                build.node("high", "Add", [build.floats("anchor_high", high), others]),
            )
        extent = high - low + np.float32(1)
        sizes = build.floats("anchor_sizes", extent)
        middles = build.floats("anchor_centres", low + np.float32(0.5) * (extent - np.float32(1)))
        centres = build.node("centres", "Add", [build.node("shifts", "Mul", [moves, sizes]), middles])
        grown = build.node("grown", "Mul", [build.node("exp", "Exp", [others]), sizes])
        reach = build.node("half_extent", "Mul", [build.node("inner", "Sub", [grown, one]), half])
        return build.node("low", "Sub", [centres, reach]), build.node("high", "Add", [centres, reach])

    def _chosen(self, build: NodeBuilder, rows: str, scores: str, most: int) -> str:
        """Emit the rows that remain, repeated to their number: [N, count, 5]."""
        _, low, high = build.split("row_score", "Split", [rows, build.integers("row_parts", (1, 2, 2))], 3, axis=2)
        end = build.node("end", "Max", [low, build.node("behind", "Add", [high, build.floats("pixel", 1)])])
        boxes = build.node("boxes", "Concat", [low, end], axis=2)
        if self.overlap >= 1:  # no region suppresses another one
            boxes = build.cast("points", build.node("never", "Greater", [boxes, boxes]))
        one = build.node("one_class", "Unsqueeze", [scores, build.integers("class_axis", (1,))])
        limits = [build.floats("overlap", [threshold_near(self.overlap, above=True)]), build.floats("lowest", [LOWEST])]
        number = build.integers("number", (most,))
        selected = build.node("selected", "NonMaxSuppression", [boxes, one, number, *limits])
        nothing = build.cast("nothing", build.node("never_better", "Greater", [scores, scores]))
        order, places = build.split("order", "TopK", [ranks(build, selected, nothing), number], 2, axis=1)
        kept = gather_rows(build, rows, places, "kept")
        there = build.cast("there", build.node("is_there", "Greater", [order, build.floats("no_rank", 0)]), np.int64)
        found = build.node("found", "ReduceSum", [there, build.integers("found_axis", (1,))], keepdims=1)
        turns = build.node("turns", "Mod", [build.integers("numbers", np.arange(self.count)[None]), found])
        return gather_rows(build, kept, turns, "repeated")

    def _parts(self, build: NodeBuilder, rows: str) -> tuple[str, str, str]:
        """Emit the number of the image, the score and the corners of each row."""
        score, corners = build.split(
            "score", "Split", [rows, build.integers("score_and_corners", (1, COORDINATES))], 2, axis=2
        )
        shape = build.node("info_shape", "Shape", [build.inputs[2]])
        count = build.node("image_count", "Gather", [shape, build.integers("first", 0)])
        bounds = [build.integers(f"image_{role}", value) for role, value in (("from", 0), ("by", 1))]
        numbers = build.cast("image_float", build.node("image_numbers", "Range", [bounds[0], count, bounds[1]]))
        column = build.node("image_column", "Reshape", [numbers, build.integers("image_shape", (-1, 1, 1))])
        zeros = build.cast("zeros", build.node("never_good", "Greater", [score, score]))
        return build.node("image", "Add", [zeros, column]), score, corners


@register
@dataclass(frozen=True)
class Proposal(MultiProposal):
    """MultiProposal of one image."""

    name = "_contrib_Proposal"
    aliases = ("Proposal",)
    restrictions = f"Of one image. {MultiProposal.restrictions}"

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(inputs[0][0] == 1, f"proposes regions of one image, not of {inputs[0][0]}")
        return super().output_shapes(*inputs)
