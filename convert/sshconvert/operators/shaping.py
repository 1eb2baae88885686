"""Operators that join tensors or change their shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register
from sshconvert.operators.reshaping import emit_reshape

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Concat(Operator):
    """Concatenation along one axis."""

    name = "Concat"
    aliases = ("concat",)
    inputs = ()
    value_preserving = ("Concat",)
    restrictions = "`dim` is not negative. The inputs differ only along that axis."

    count: int
    axis: int

    @classmethod
    def read(cls, attributes: Attributes) -> Concat:
        return cls(attributes.integer("num_args", least=1), attributes.integer("dim", 1))

    def input_count(self) -> int:
        return self.count

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        first = inputs[0]
        need(self.axis < len(first), f"axis {self.axis} is not an axis of {first}")
        others = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in inputs}
        need(len(others) == 1, f"the inputs {shown(list(inputs))} differ outside axis {self.axis}")
        total = sum(shape[self.axis] for shape in inputs)
        return ((*first[: self.axis], total, *first[self.axis + 1 :]),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Concat", build.inputs, axis=self.axis)


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
