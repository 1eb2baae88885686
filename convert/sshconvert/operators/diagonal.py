"""Diagonals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.axes import axis_in, read_axis
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Diag(Operator):
    """The diagonal of two axes, which becomes the last axis; or, of one dimension, a square matrix with that diagonal.

    `offset` is the number of columns by which the diagonal lies to the right.
    """

    name = "diag"
    value_preserving = ("Reshape", "Slice", "Transpose")
    restrictions = "The two axes need a fixed size."

    offset: int
    axes: tuple[int, int]

    @classmethod
    def read(cls, attributes: Attributes) -> Diag:
        offset = attributes.integer("k", 0, least=-MAX_INTEGER)
        return cls(offset, (read_axis(attributes, "axis1", 0), read_axis(attributes, "axis2", 1)))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data = inputs[0]
        if len(data) == 1:
            return ((data[0] + abs(self.offset),) * 2,)
        rows, columns = self._axes(data)
        length = min(data[rows] + min(self.offset, 0), data[columns] - max(self.offset, 0))
        need(length > 0, f"{data} has no diagonal {self.offset}")
        return ((*(size for axis, size in enumerate(data) if axis not in (rows, columns)), length),)

    def _axes(self, data: Shape) -> tuple[int, int]:
        rows, columns = (axis_in(axis, data) for axis in self.axes)
        need(rows != columns, f"the axes {self.axes} of {data} are the same")
        return rows, columns

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        if inputs[0].ndim == 1:
            return (np.diag(inputs[0], self.offset),)
        return (np.diagonal(inputs[0], self.offset, *self.axes),)

    def emit(self, build: NodeBuilder) -> None:
        data = build.input_shapes[0]
        if len(data) == 1:
            need(not any(build.free_input()), "needs a fixed size")
            self._emit_matrix(build, data[0])
            return
        rows, columns = self._axes(data)
        need(not build.free_input()[rows] and not build.free_input()[columns], "needs a fixed size")
        order = [*(axis for axis in range(len(data)) if axis not in (rows, columns)), rows, columns]
        last, step = build.inputs[0], data[columns] + 1
        if order != sorted(order):
            last = build.node("ordered", "Transpose", [last], perm=order)
        shape = build.integers("shape", (*(0,) * (len(data) - 2), -1))
        flat = build.node("flat", "Reshape", [last, shape])
        begin = self.offset if self.offset >= 0 else -self.offset * data[columns]
        end = begin + (build.output_shapes[0][-1] - 1) * step + 1
        limits = {"begin": begin, "end": end, "axis": len(data) - 2, "step": step}
        build.finish("Slice", [flat, *(build.integers(role, (value,)) for role, value in limits.items())])

    def _emit_matrix(self, build: NodeBuilder, length: int) -> None:
        """Emit zeros behind each element, so that the elements are as far apart as on a diagonal."""
        size = length + abs(self.offset)
        rows = build.node("rows", "Unsqueeze", [build.inputs[0], build.integers("axis", (1,))])
        wide = build.node("wide", "Pad", [rows, build.integers("columns", (0, 0, 0, size))])
        flat = build.node("flat", "Reshape", [wide, build.integers("all", (-1,))])
        end = (length - 1) * (size + 1) + 1
        limits = [build.integers(role, (value,)) for role, value in (("begin", 0), ("end", end))]
        diagonal = build.node("diagonal", "Slice", [flat, *limits])
        before = self.offset if self.offset >= 0 else -self.offset * size
        widths = build.integers("widths", (before, size * size - before - end))
        build.finish(
            "Reshape", [build.node("whole", "Pad", [diagonal, widths]), build.integers("matrix", (size, size))]
        )
