"""Operators that keep the elements of a tensor and their order, and change its shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, Attributes
from sshconvert.operators.axes import axes_in, axis_in, emit_sizes, read_axis
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register
from sshconvert.operators.reshaping import emit_reshape

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Flatten(Operator):
    """Two dimensions: the first, and the product of the others."""

    name = "Flatten"
    aliases = ("flatten",)
    value_preserving = ("Reshape",)

    @classmethod
    def read(cls, attributes: Attributes) -> Flatten:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((inputs[0][0], math.prod(inputs[0][1:])),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].reshape(len(inputs[0]), -1),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Reshape", [build.inputs[0], build.integers("shape", (0, -1))])


@register
@dataclass(frozen=True)
class Squeeze(Operator):
    """The tensor without dimensions of 1: those at `axes`, or all without it. One dimension always remains."""

    name = "squeeze"
    value_preserving = ("Squeeze", "Identity")

    axes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Squeeze:
        return cls(attributes.integers("axis", (), least=-MAX_DIMENSIONS))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        removed = self._removed(inputs[0])
        need(all(inputs[0][axis] == 1 for axis in removed), f"axes {removed} of {inputs[0]} are not all 1")
        return (tuple(size for axis, size in enumerate(inputs[0]) if axis not in removed),)

    def _removed(self, data: Shape) -> Shape:
        ones = tuple(axis for axis, size in enumerate(data) if size == 1)
        removed = axes_in(self.axes, data) if self.axes else ones
        return removed[1:] if len(removed) == len(data) else removed

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].squeeze(self._removed(inputs[0].shape)),)

    def emit(self, build: NodeBuilder) -> None:
        need(
            bool(self.axes) or not any(build.free_input()), "needs a fixed size, since it removes every dimension of 1"
        )
        removed = self._removed(build.input_shapes[0])
        if removed:
            build.finish("Squeeze", [build.inputs[0], build.integers("axes", removed)])
        else:
            build.finish("Identity", build.inputs)


@register
@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in another shape.

    Codes: a positive number is a size, 0 keeps a dimension, -1 takes the remaining elements, -2 copies the remaining
    dimensions, -3 joins two dimensions, -4 splits one into the next two numbers (one of them may be -1). With
    `reverse`, MXNet reads the codes and the dimensions from right to left.
    """

    name = "Reshape"
    aliases = ("reshape",)
    value_preserving = ("Reshape", "Split")
    restrictions = "A -1 is read before every -2 and -4: MXNet misplaces it after them."

    codes: Shape
    reverse: bool = False

    @classmethod
    def read(cls, attributes: Attributes) -> Reshape:
        codes = attributes.integers("shape", (), least=-4)
        reverse = attributes.boolean("reverse", default=False)
        target = _read_target(attributes)
        if not codes:
            codes, reverse = target, False
        if not codes:
            attributes.problems.append("attribute shape is missing")
        if _is_misplaced(codes[::-1] if reverse else codes):
            attributes.problems.append(
                f"attribute shape='{codes}' is not supported: MXNet misplaces a -1 after -2 or -4"
            )
        return cls(codes, reverse)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        step = -1 if self.reverse else 1
        remaining, shape, codes = list(inputs[0][::step]), [], list(self.codes[::step])
        try:
            while codes:
                shape.extend(self._apply(codes, remaining))
        except IndexError:
            raise ShapeError(f"shape codes {self.codes} need more dimensions than {inputs[0]} has") from None
        return (_fill(shape[::step], math.prod(inputs[0]), f"{inputs[0]} cannot be reshaped by {self.codes}"),)

    @staticmethod
    def _apply(codes: list[int], remaining: list[int]) -> list[int]:
        """Take one code, with its operands, and the input dimensions that it consumes; return output dimensions."""
        code = codes.pop(0)
        if code == -2:
            copied, remaining[:] = list(remaining), []
            return copied
        if code == -3:
            return [remaining.pop(0) * remaining.pop(0)]
        if code == -4:
            size, pair = remaining.pop(0), [codes.pop(0), codes.pop(0)]
            return list(_fill(pair, size, f"a dimension of {size} does not split into {pair}"))
        if code == 0:
            return [remaining.pop(0)]
        if remaining:
            remaining.pop(0)
        return [code]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].reshape(self.output_shapes(inputs[0].shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        emit_reshape(build, self.codes, reverse=self.reverse)


def _read_target(attributes: Attributes) -> Shape:
    """Return the codes of the attributes that `shape` replaced: a 0 takes the remaining elements.

    `keep_highest` keeps the first dimension.
    """
    target = attributes.integers("target_shape", ())
    keep = attributes.boolean("keep_highest", default=False)
    codes = tuple(size or -1 for size in target)
    return (0, *codes[1:]) if keep and codes else codes


def _is_misplaced(codes: Sequence[int]) -> bool:
    """Return whether a -1 follows a -2 or -4.

    MXNet uses the index of the -1 among the codes as its index in the shape. A -2 or -4 shifts the indices, so MXNet
    gives another shape, or writes beyond the end of the shape.
    """
    remaining = iter(codes)
    shifted = False
    for code in remaining:
        if code == -1 and shifted:
            return True
        shifted = shifted or code in (-2, -4)
        if code == -4:
            next(remaining, None), next(remaining, None)  # its operands
    return False


def _fill(shape: list[int], elements: int, problem: str) -> Shape:
    """Return `shape`, which holds `elements`, with its -1 inferred. Raises ShapeError with the problem."""
    known = math.prod(size for size in shape if size != -1)
    need(shape.count(-1) <= 1 and all(size > 0 or size == -1 for size in shape), problem)
    filled = tuple(elements // known if size == -1 else size for size in shape)
    need(math.prod(filled) == elements, problem)
    return filled


@register
@dataclass(frozen=True)
class ReshapeLike(Operator):
    """The first input with dimensions of the second.

    The dimensions `lhs_begin` to `lhs_end` of the first input become `rhs_begin` to `rhs_end` of the second. Without
    a number, a range begins with the first dimension or ends with the last.
    """

    name = "reshape_like"
    inputs = ("lhs", "rhs")
    value_preserving = ("Reshape",)

    lhs: slice
    rhs: slice

    @classmethod
    def read(cls, attributes: Attributes) -> ReshapeLike:
        return cls(*(_read_range(attributes, f"{side}_begin", f"{side}_end") for side in ("lhs", "rhs")))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (begin, end), like = self._range(self.lhs, inputs[0]), self._range(self.rhs, inputs[1])
        shape = (*inputs[0][:begin], *inputs[1][like[0] : like[1]], *inputs[0][end:])
        need(math.prod(shape) == math.prod(inputs[0]), f"{inputs[0]} cannot be reshaped to {shape}")
        return (shape,)

    @staticmethod
    def _range(part: slice, shape: Shape) -> tuple[int, int]:
        begin = 0 if part.start is None else part.start + len(shape) * (part.start < 0)
        end = len(shape) if part.stop is None else part.stop + len(shape) * (part.stop < 0)
        need(0 <= begin < end <= len(shape), f"{part.start} to {part.stop} are no dimensions of {shape}")
        return begin, end

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].reshape(self.output_shapes(*(array.shape for array in inputs))[0]),)

    def emit(self, build: NodeBuilder) -> None:
        data, like = build.input_shapes
        (begin, end), (like_begin, like_end) = self._range(self.lhs, data), self._range(self.rhs, like)
        kept = ((0, range(begin)), (1, range(like_begin, like_end)), (0, range(end, len(data))))
        parts = [emit_sizes(build, "sizes", build.inputs[number], tuple(axes)) for number, axes in kept if axes]
        build.finish("Reshape", [build.inputs[0], build.node("shape", "Concat", parts, axis=0)])


def _read_range(attributes: Attributes, begin: str, end: str) -> slice:
    return slice(*(attributes.optional_integer(name, least=-MAX_DIMENSIONS) for name in (begin, end)))


@register
@dataclass(frozen=True)
class ExpandDims(Operator):
    """The tensor with a new dimension of 1 at `axis`."""

    name = "expand_dims"
    value_preserving = ("Unsqueeze",)

    axis: int

    @classmethod
    def read(cls, attributes: Attributes) -> ExpandDims:
        return cls(read_axis(attributes, "axis"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = axis_in(self.axis, (*inputs[0], 1))
        return ((*inputs[0][:axis], 1, *inputs[0][axis:]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.expand_dims(inputs[0], self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        axis = axis_in(self.axis, build.output_shapes[0])
        build.finish("Unsqueeze", [build.inputs[0], build.integers("axis", (axis,))])
