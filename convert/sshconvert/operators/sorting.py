"""Operators that sort.

Of equal elements, the one with the lower index comes first, ascending and descending. OpenVINO and MXNet promise no
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attributes
from sshconvert.operators.axes import axis_in, emit_sizes, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

ORDER: Final = "Of equal elements, the one with the lower index comes first, but OpenVINO promises no order."
VALUES, INDICES, MASK, BOTH = "value", "indices", "mask", "both"
DTYPES: Final = ("float32", "float64", "float16", "int32", "int64", "uint8")

# The largest index that each type holds exactly.
_LARGEST: Final = {"float16": 2**11, "float32": 2**24, "uint8": 2**8 - 1}


@dataclass(frozen=True)
class _Sorting(Operator):
    """The first `count` elements (0: all) in order along an axis (None: of the flattened tensor)."""

    restrictions = ORDER

    axis: int | None
    count: int
    ascending: bool
    result: str
    dtype: DType

    def _flattened(self, data: Shape) -> tuple[Shape, int]:
        """Return the shape that is sorted, and its axis."""
        return ((int(np.prod(data)),), 0) if self.axis is None else (data, axis_in(self.axis, data))

    def output_names(self) -> tuple[str, ...]:
        return {VALUES: ("output0",), BOTH: ("output0", "output1")}.get(self.result, ("output",))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, axis = self._flattened(inputs[0])
        need(self.count <= data[axis], f"{self.count} elements are more than axis {axis} of {data} has")
        largest = _LARGEST.get(self.dtype.name, MAX_INTEGER)
        need(
            self.result in (VALUES, MASK) or data[axis] <= largest + 1,
            f"{self.dtype} cannot index axis {axis} of {data}",
        )
        shape = inputs[0] if self.result == MASK else replaced(data, axis, self.count or data[axis])
        return (shape,) * len(self.output_names())

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return {BOTH: (inputs[0], self.dtype), INDICES: (self.dtype,)}.get(self.result, (inputs[0],))

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        shape, axis = self._flattened(inputs[0].shape)
        data = inputs[0].reshape(shape)
        order = np.argsort(data if self.ascending else -data, axis, kind="stable")
        indices = np.take(order, np.arange(self.count or shape[axis]), axis)
        if self.result == MASK:
            mask = np.zeros_like(data)
            np.put_along_axis(mask, indices, 1, axis)
            return (mask.reshape(inputs[0].shape),)
        values, typed = (
            np.take_along_axis(data, indices, axis),
            indices.astype(np.float64 if self.dtype.kind == "f" else np.int64),
        )
        return {VALUES: (values,), INDICES: (typed,), BOTH: (values, typed)}[self.result]

    def emit(self, build: NodeBuilder) -> None:
        data, axis = build.inputs[0], self._flattened(build.input_shapes[0])[1]
        if self.axis is None:
            data = build.node("flat", "Reshape", [data, build.integers("all", (-1,))])
        count = build.integers("count", (self.count,)) if self.count else emit_sizes(build, "count", data, (axis,))
        order = {"axis": axis, "largest": int(not self.ascending), "sorted": 1}
        values, indices = build.split("sorted", "TopK", [data, count], 2, **order)
        if self.result == MASK:
            self._emit_mask(build, data, indices, axis)
        if self.result in (VALUES, BOTH):
            build.output(build.outputs[0], "Identity", [values])
        if self.result in (INDICES, BOTH):
            build.finish_cast(indices, len(build.outputs) - 1)

    def _emit_mask(self, build: NodeBuilder, data: str, indices: str, axis: int) -> None:
        dtype = build.input_dtypes[0]
        zero, one = (build.constant(role, np.array([value], dtype)) for role, value in (("zero", 0), ("one", 1)))
        zeros = build.node("zeros", "Expand", [zero, build.node("shape", "Shape", [data])])
        ones = build.node("ones", "Expand", [one, build.node("chosen", "Shape", [indices])])
        if self.axis is not None:
            build.finish("ScatterElements", [zeros, indices, ones], axis=axis)
            return
        mask = build.node("mask", "ScatterElements", [zeros, indices, ones], axis=axis)
        build.finish("Reshape", [mask, build.node("whole", "Shape", [build.inputs[0]])])


def _read_axis(attributes: Attributes) -> int | None:
    return attributes.optional_integer("axis", default=-1, least=-MAX_DIMENSIONS)


def _read_dtype(attributes: Attributes) -> DType:
    """Read the type of indices."""
    return np.dtype(attributes.choice("dtype", DTYPES, "float32"))


@register
@dataclass(frozen=True)
class TopK(_Sorting):
    """The largest elements of an axis, or the smallest: values, indices, both, or a mask of ones at their places."""

    name = "topk"

    @classmethod
    def read(cls, attributes: Attributes) -> TopK:
        return cls(
            axis=_read_axis(attributes),
            count=max(attributes.integer("k", 1, least=-MAX_INTEGER), 0),
            ascending=attributes.boolean("is_ascend", default=False),
            result=attributes.choice("ret_typ", (INDICES, VALUES, MASK, BOTH), INDICES),
            dtype=_read_dtype(attributes),
        )


@register
@dataclass(frozen=True)
class Sort(_Sorting):
    """The elements of an axis in order."""

    name = "sort"

    @classmethod
    def read(cls, attributes: Attributes) -> Sort:
        ascending = attributes.boolean("is_ascend", default=True)
        return cls(_read_axis(attributes), 0, ascending, VALUES, np.dtype(np.float32))


@register
@dataclass(frozen=True)
class ArgSort(_Sorting):
    """The indices of the elements of an axis in order."""

    name = "argsort"

    @classmethod
    def read(cls, attributes: Attributes) -> ArgSort:
        ascending = attributes.boolean("is_ascend", default=True)
        return cls(_read_axis(attributes), 0, ascending, INDICES, _read_dtype(attributes))
