"""Operators that choose elements by other tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.axes import same_dtype
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Where(Operator):
    """Elements of the second input where the first is not 0, and of the third elsewhere.

    A condition with one dimension chooses whole rows.
    """

    name = "where"
    inputs = ("condition", "x", "y")
    value_preserving = ("Where",)
    restrictions = "The condition has the shape of the other inputs, or their first size as its only one."

    @classmethod
    def read(cls, attributes: Attributes) -> Where:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        condition, first, second = inputs
        need(first == second, f"shapes {first} and {second} differ")
        need(condition in (first, first[:1]), f"a condition of {condition} does not choose from {first}")
        return (first,)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (same_dtype(inputs[1:]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        condition = inputs[0].reshape(inputs[0].shape + (1,) * (inputs[1].ndim - inputs[0].ndim))
        return (np.where(condition != 0, inputs[1], inputs[2]),)

    def emit(self, build: NodeBuilder) -> None:
        condition = build.cast("condition", build.inputs[0], np.bool_)
        added = range(len(build.input_shapes[0]), len(build.input_shapes[1]))
        if added:
            condition = build.node("rows", "Unsqueeze", [condition, build.integers("axes", added)])
        build.finish("Where", [condition, *build.inputs[1:]])


@register
@dataclass(frozen=True)
class GatherNd(Operator):
    """Elements or slices of the first input at the indices [axes, ...]: a number for each of its first axes.

    Negative indices count from the back.
    """

    name = "gather_nd"
    inputs = ("data", "indices")
    value_preserving = ("GatherND",)
    restrictions = "The indices are whole numbers inside the data."

    @classmethod
    def read(cls, attributes: Attributes) -> GatherNd:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, indices = inputs
        need(len(indices) > 1, f"indices of {indices} have fewer than 2 dimensions")
        need(indices[0] <= len(data), f"{indices[0]} indices are more than the dimensions of {data}")
        return ((*indices[1:], *data[indices[0] :]),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0][tuple(inputs[1].astype(np.int64))],)

    def emit(self, build: NodeBuilder) -> None:
        rank = len(build.input_shapes[1])
        indices = build.cast("whole", build.inputs[1], np.int64)
        last = build.node("indices", "Transpose", [indices], perm=(*range(1, rank), 0))
        build.finish("GatherND", [build.inputs[0], last])
