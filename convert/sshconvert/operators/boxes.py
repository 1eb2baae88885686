"""Operators on boxes: their overlaps, and the decoding of offsets from anchors.

A box is four numbers, `xmin, ymin, xmax, ymax` in the format "corner", or `x, y, width, height` in "center".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

CORNER: Final = "corner"
CENTER: Final = "center"
FORMATS: Final = (CORNER, CENTER)
COORDINATES: Final = 4


@register
@dataclass(frozen=True)
class BoxDecode(Operator):
    """Boxes from offsets relative to anchors, in the format "corner".

    An offset moves the anchor's centre by a share of its size, and scales its size by an exponential.
    """

    name = "_contrib_box_decode"
    inputs = ("data", "anchors")

    deviations: tuple[float, ...]
    clip: float  # the largest exponent; 0 or less for none
    format: str

    @classmethod
    def read(cls, attributes: Attributes) -> BoxDecode:
        return cls(
            tuple(attributes.number(f"std{number}", 1, least=-MAX_FLOAT32) for number in range(COORDINATES)),
            attributes.number("clip", -1, least=-MAX_FLOAT32),
            attributes.choice("format", FORMATS, CENTER),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, anchors = inputs
        need(len(data) == 3 and data[2] == COORDINATES, f"offsets have the shape (N, boxes, 4), not {data}")
        need(
            len(anchors) >= 3 and anchors[-1] == COORDINATES and math.prod(anchors) == data[1] * COORDINATES,
            f"{anchors} are not the anchors of {data[1]} boxes",
        )
        return (data,)

    def flops(self, *inputs: Shape) -> float:
        return 5

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        anchors = inputs[1].reshape(1, -1, COORDINATES)
        centres, sizes = anchors[..., :2], anchors[..., 2:]
        if self.format == CORNER:
            sizes = sizes - centres
            centres = centres + sizes / 2
        moves, exponents = np.split(inputs[0] * np.array(self.deviations, np.float32), 2, axis=2)
        if self.clip > 0:
            exponents = np.minimum(exponents, np.float32(self.clip))
        centres = moves * sizes + centres
        reach = np.exp(exponents) * sizes / 2
        return (np.concatenate([centres - reach, centres + reach], axis=2),)

    def emit(self, build: NodeBuilder) -> None:
        halves, half = build.integers("halves", (2, 2)), build.floats("half", 0.5)
        anchors = build.inputs[1]
        if len(build.input_shapes[1]) != 3 or build.input_shapes[1][0] != 1:
            anchors = build.node("anchors", "Reshape", [anchors, build.integers("anchors_shape", (1, -1, COORDINATES))])
        centres, sizes = build.split("centres", "Split", [anchors, halves], 2, axis=2)
        if self.format == CORNER:
            sizes = build.node("sizes", "Sub", [sizes, centres])
            centres = build.node("middles", "Add", [centres, build.node("half_sizes", "Mul", [sizes, half])])
        scaled = build.node("scaled", "Mul", [build.inputs[0], build.floats("deviations", self.deviations)])
        moves, exponents = build.split("moves", "Split", [scaled, halves], 2, axis=2)
        if self.clip > 0:
            exponents = build.node("clipped", "Min", [exponents, build.floats("clip", self.clip)])
        centres = build.node("moved", "Add", [build.node("shifts", "Mul", [moves, sizes]), centres])
        grown = build.node("grown", "Mul", [build.node("exp", "Exp", [exponents]), sizes])
        reach = build.node("reach", "Mul", [grown, half])
        corners = [build.node(role, role, [centres, reach]) for role in ("Sub", "Add")]
        build.finish("Concat", corners, axis=2)


@register
@dataclass(frozen=True)
class BoxOverlap(Operator):
    """The intersection over union of each box of the first input with each box of the second."""

    name = "_contrib_box_iou"
    inputs = ("lhs", "rhs")

    format: str

    @classmethod
    def read(cls, attributes: Attributes) -> BoxOverlap:
        return cls(attributes.choice("format", FORMATS, CORNER))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        for shape in inputs:
            need(len(shape) >= 2 and shape[-1] == COORDINATES, f"boxes have the shape (…, 4), not {shape}")
        return ((*inputs[0][:-1], *inputs[1][:-1]),)

    def flops(self, *inputs: Shape) -> float:
        return 10

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        boxes = [array.reshape(-1, COORDINATES) for array in inputs]
        overlaps = overlap_matrix(boxes[0], boxes[1], self.format)
        return (overlaps.reshape(*inputs[0].shape[:-1], *inputs[1].shape[:-1]),)

    def emit(self, build: NodeBuilder) -> None:
        """Emit the overlaps of [L, 1, 4] and [1, R, 4]."""
        zero = build.floats("zero", 0)
        first, last, areas = [], [], []
        for role, tensor, shape in zip(("lhs", "rhs"), build.inputs, ((-1, 1, 4), (1, -1, 4)), strict=True):
            rows = build.node(f"{role}_rows", "Reshape", [tensor, build.integers(f"{role}_shape", shape)])
            halves = build.integers(f"{role}_halves", (2, 2))
            low, high = build.split(f"{role}_low", "Split", [rows, halves], 2, axis=2)
            if self.format == CENTER:
                size, half = high, build.node(f"{role}_half", "Mul", [high, build.floats(f"{role}_by", 0.5)])
                low, high = (build.node(f"{role}_{name}", name, [low, half]) for name in ("Sub", "Add"))
            else:
                size = build.node(f"{role}_size", "Sub", [high, low])
            areas.append(_product(build, f"{role}_area", build.node(f"{role}_positive", "Max", [size, zero])))
            first.append(low)
            last.append(high)
        sizes = build.node("sizes", "Sub", [build.node("last", "Min", last), build.node("first", "Max", first)])
        common = _product(build, "common", build.node("common_size", "Max", [sizes, zero]))
        union = build.node("union", "Sub", [build.node("areas", "Add", areas), common])
        share = build.node("share", "Div", [common, union])
        overlaps = build.node("overlaps", "Where", [build.node("is_common", "Greater", [common, zero]), share, zero])
        shapes = [self._leading(build, role, number) for number, role in enumerate(("lhs", "rhs"))]
        build.finish("Reshape", [overlaps, build.node("shape", "Concat", shapes, axis=0)])

    def _leading(self, build: NodeBuilder, role: str, number: int) -> str:
        """Emit the sizes of an input but the last."""
        shape, free = build.input_shapes[number][:-1], build.free_input(number)
        if not any(free):
            return build.integers(f"{role}_sizes", shape)
        every = build.node(f"{role}_all", "Shape", [build.inputs[number]])
        bounds = [build.integers(f"{role}_{name}", (value,)) for name, value in (("from", 0), ("to", -1))]
        return build.node(f"{role}_sizes", "Slice", [every, *bounds])


def _product(build: NodeBuilder, role: str, pairs: str) -> str:
    """Emit the product of the two numbers of the last axis, of size 2, of a tensor of rank 3."""
    ones = build.integers(f"{role}_ones", (1, 1))
    width, height = build.split(f"{role}_width", "Split", [pairs, ones], 2, axis=2)
    return build.node(role, "Mul", [width, height])


def overlap_matrix(first: Array, second: Array, form: str) -> Array:
    """Return the intersection over union of boxes [L, 4] and [R, 4]: [L, R], 0 for boxes without a common area."""
    (lows, highs), (other_lows, other_highs) = (corners(boxes, form) for boxes in (first, second))
    sizes = np.minimum(highs[:, None], other_highs[None]) - np.maximum(lows[:, None], other_lows[None])
    common = np.prod(np.maximum(sizes, 0), axis=2)
    union = areas(first, form)[:, None] + areas(second, form)[None] - common
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Array = np.where(common > 0, common / union, common.dtype.type(0))
    return shares


def corners(boxes: Array, form: str) -> tuple[Array, Array]:
    """Return the upper left and the lower right corners [N, 2] of boxes [N, 4]."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return (low, high) if form == CORNER else (low - high / 2, low + high / 2)


def areas(boxes: Array, form: str) -> Array:
    """Return the areas [N] of boxes [N, 4], 0 for a box with a negative size."""
    sizes = boxes[:, 2:] - boxes[:, :2] if form == CORNER else boxes[:, 2:]
    products: Array = np.prod(np.maximum(sizes, 0), axis=1)
    return products
