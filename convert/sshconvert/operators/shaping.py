"""Operators that keep the elements of a tensor and their order, and change its shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, Attributes
from sshconvert.operators.axes import axes_in
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
    dimensions, -3 joins two dimensions, -4 splits one into the next two numbers (one of them may be -1).
    """

    name = "Reshape"
    aliases = ("reshape",)
    value_preserving = ("Reshape", "Split")
    restrictions = "A -1 comes before every -2 and -4: MXNet misplaces it after them."

    codes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Reshape:
        codes = attributes.integers("shape", least=-4)
        attributes.never("reverse")
        if _is_misplaced(codes):
            attributes.problems.append(
                f"attribute shape='{codes}' is not supported: MXNet misplaces a -1 after -2 or -4"
            )
        # MXNet 0.8 has these instead of `shape`. With `shape`, they have no effect.
        attributes.without_effect("target_shape", "keep_highest")
        return cls(codes)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        remaining, shape, codes = list(inputs[0]), [], list(self.codes)
        try:
            while codes:
                shape.extend(self._apply(codes, remaining))
        except IndexError:
            raise ShapeError(f"shape codes {self.codes} need more dimensions than {inputs[0]} has") from None
        return (_fill(shape, math.prod(inputs[0]), f"{inputs[0]} cannot be reshaped by {self.codes}"),)

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
        emit_reshape(build, self.codes)


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
