"""Operators that choose or place elements by a condition or by an index for each axis."""

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
        build.finish("GatherND", [build.inputs[0], _last_indices(build, build.inputs[1])])


@register
@dataclass(frozen=True)
class ScatterNd(Operator):
    """Zeros of a shape, with the data at the indices [axes, ...], the reverse of gather_nd."""

    name = "scatter_nd"
    inputs = ("data", "indices")
    restrictions = "The indices are whole numbers inside the shape, not negative, and do not repeat."

    shape: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> ScatterNd:
        return cls(attributes.integers("shape", least=1))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, indices = inputs
        need(len(indices) > 1, f"indices of {indices} have fewer than 2 dimensions")
        need(indices[0] <= len(self.shape), f"{indices[0]} indices are more than the dimensions of {self.shape}")
        expected = (*indices[1:], *self.shape[indices[0] :])
        need(data == expected, f"data of {data} do not fit to indices of {indices}, expected {expected}")
        return (self.shape,)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        result = np.zeros(self.shape, inputs[0].dtype)
        result[tuple(inputs[1].astype(np.int64))] = inputs[0]
        return (result,)

    def emit(self, build: NodeBuilder) -> None:
        zero = build.constant("zero", np.zeros(1, build.input_dtypes[0]))
        zeros = build.node("zeros", "Expand", [zero, build.integers("shape", self.shape)])
        build.finish("ScatterND", [zeros, _last_indices(build, build.inputs[1]), build.inputs[0]])


@register
@dataclass(frozen=True)
class IndexCopy(Operator):
    """The first input with other rows, those of the third input, at the indices of the second."""

    name = "_contrib_index_copy"
    inputs = ("old_tensor", "index_vector", "new_tensor")
    restrictions = "The indices are whole numbers inside the tensor, not negative, and do not repeat."

    @classmethod
    def read(cls, attributes: Attributes) -> IndexCopy:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        old, index, new = inputs
        need(len(index) == 1 and new == (*index, *old[1:]), f"{index} indices and {new} do not fit into {old}")
        return (old,)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (same_dtype((inputs[0], inputs[2])),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        result = inputs[0].copy()
        result[inputs[1].astype(np.int64)] = inputs[2]
        return (result,)

    def emit(self, build: NodeBuilder) -> None:
        index = build.cast("whole", build.inputs[1], np.int64)
        rows = build.node("rows", "Unsqueeze", [index, build.integers("axis", (1,))])
        build.finish("ScatterND", [build.inputs[0], rows, build.inputs[2]])


def _last_indices(build: NodeBuilder, indices: str) -> str:
    """Return indices of the last axis, as ONNX has them, for MXNet's of the first."""
    rank = len(build.input_shapes[1])
    whole = build.cast("whole", indices, np.int64)
    return build.node("indices", "Transpose", [whole], perm=(*range(1, rank), 0))
