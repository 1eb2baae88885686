"""Operators that join tensors, or split one into its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.axes import axis_in, read_axis, replaced, same_dtype
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

MOST_OUTPUTS: Final = 1024


def finish_vector(build: NodeBuilder) -> None:
    """Join the inputs, which are vectors, as rows.

    OpenVINO 2026.4 computes Abs of a joined vector in the vector's memory, also if other nodes read the vector.
    """
    first = build.integers("first", (0,))
    rows = [build.node("row", "Unsqueeze", [vector, first]) for vector in build.inputs]
    build.finish("Squeeze", [build.node("joined", "Concat", rows, axis=1), first])


@dataclass(frozen=True)
class _Joining(Operator):
    """The fields of operators that take any number of inputs."""

    inputs = ()
    value_preserving: ClassVar[tuple[str, ...]] = ("Concat",)

    count: int
    axis: int

    def input_count(self) -> int:
        return self.count

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (same_dtype(inputs),)


@register
@dataclass(frozen=True)
class Concat(_Joining):
    """Concatenation along one axis."""

    name = "Concat"
    aliases = ("concat",)
    restrictions = "The inputs differ only along `dim`."
    value_preserving = ("Concat", "Unsqueeze", "Squeeze")

    @classmethod
    def read(cls, attributes: Attributes) -> Concat:
        return cls(attributes.integer("num_args", least=1), read_axis(attributes, "dim", 1))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = axis_in(self.axis, inputs[0])
        fits = all(len(shape) == len(inputs[0]) for shape in inputs)
        fits = fits and len({replaced(shape, axis) for shape in inputs}) == 1
        need(fits, f"the inputs {shown(list(inputs))} differ outside axis {axis}")
        return (replaced(inputs[0], axis, sum(shape[axis] for shape in inputs)),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.concatenate(inputs, self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        if len(build.output_shapes[0]) > 1:
            build.finish("Concat", build.inputs, axis=axis_in(self.axis, build.output_shapes[0]))
        else:
            finish_vector(build)


@register
@dataclass(frozen=True)
class Stack(_Joining):
    """Concatenation of tensors of one shape along a new axis."""

    name = "stack"
    value_preserving = ("Concat", "Unsqueeze")

    @classmethod
    def read(cls, attributes: Attributes) -> Stack:
        return cls(attributes.integer("num_args", least=1), read_axis(attributes, "axis", 0))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(set(inputs)) == 1, f"the inputs {shown(list(inputs))} differ")
        axis = axis_in(self.axis, (*inputs[0], 1))
        return ((*inputs[0][:axis], self.count, *inputs[0][axis:]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.stack(inputs, self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        axis = axis_in(self.axis, build.output_shapes[0])
        where = build.integers("axis", (axis,))
        parts = [build.node("part", "Unsqueeze", [tensor, where]) for tensor in build.inputs]
        build.finish("Concat", parts, axis=axis)


@dataclass(frozen=True)
class _Splitting(Operator):
    """The fields of operators that cut a tensor along one axis, which they drop if `squeeze` is set."""

    value_preserving = ("Split", "Squeeze", "Identity")

    axis: int
    squeeze: bool

    def part(self, data: Shape, axis: int, size: int) -> Shape:
        need(not self.squeeze or size == 1, f"a part of {size} along axis {axis} of {data} cannot lose that axis")
        return replaced(data, axis, *(() if self.squeeze else (size,)))

    def without_axis(self, parts: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(part.squeeze(self.axis) for part in parts) if self.squeeze else tuple(parts)

    def emit_split(self, build: NodeBuilder, inputs: Sequence[str]) -> None:
        axis = axis_in(self.axis, build.input_shapes[0])
        if not self.squeeze:
            build.finish("Split", inputs, axis=axis)
            return
        parts = build.split("part", "Split", inputs, len(build.outputs), axis=axis)
        where = build.integers("axis", (axis,))
        for output, part in zip(build.outputs, parts, strict=True):
            build.output(output, "Squeeze", [part, where])


@register
@dataclass(frozen=True)
class SliceChannel(_Splitting):
    """Parts of equal size along one axis."""

    name = "SliceChannel"
    aliases = ("split",)

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> SliceChannel:
        return cls(
            axis=read_axis(attributes, "axis", 1),
            squeeze=attributes.boolean("squeeze_axis", default=False),
            count=attributes.integer("num_outputs", least=1, most=MOST_OUTPUTS),
        )

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{number}" for number in range(self.count))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = axis_in(self.axis, inputs[0])
        part, rest = divmod(inputs[0][axis], self.count)
        need(rest == 0, f"axis {axis} of {inputs[0]} does not divide into {self.count} parts")
        return (self.part(inputs[0], axis, part),) * self.count

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return self.without_axis(np.split(inputs[0], self.count, self.axis))

    def emit(self, build: NodeBuilder) -> None:
        self.emit_split(build, build.inputs)


@register
@dataclass(frozen=True)
class SplitV2(_Splitting):
    """Parts of equal size, or parts that begin at the given indices."""

    name = "_split_v2"
    restrictions = "`indices` begin with 0 and increase. No part is empty."

    begins: Shape
    sections: int

    @classmethod
    def read(cls, attributes: Attributes) -> SplitV2:
        sections = attributes.integer("sections", 0, most=MOST_OUTPUTS)
        begins = attributes.integers("indices", () if sections else None, most=MOST_OUTPUTS)
        if not sections and begins and (begins[0] != 0 or any(one >= other for one, other in pairwise(begins))):
            attributes.problems.append(
                f"attribute indices={begins} is not supported: expected 0 and increasing numbers"
            )
        return cls(
            axis=read_axis(attributes, "axis", 1),
            squeeze=attributes.boolean("squeeze_axis", default=False),
            begins=begins,
            sections=sections,
        )

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{number}" for number in range(self.sections or len(self.begins)))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = axis_in(self.axis, inputs[0])
        return tuple(self.part(inputs[0], axis, size) for size in self._sizes(inputs[0][axis]))

    def _sizes(self, size: int) -> Shape:
        if self.sections:
            need(size % self.sections == 0, f"a dimension of {size} does not divide into {self.sections} parts")
            return (size // self.sections,) * self.sections
        need(self.begins[-1] < size, f"a part that begins at {self.begins[-1]} of {size} is empty")
        return tuple(end - begin for begin, end in pairwise((*self.begins, size)))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return self.without_axis(np.split(inputs[0], self.sections or self.begins[1:], self.axis))

    def emit(self, build: NodeBuilder) -> None:
        axis = axis_in(self.axis, build.input_shapes[0])
        if self.sections:
            self.emit_split(build, build.inputs)
            return
        need(not build.free_input()[axis], "needs a fixed size")
        sizes = build.integers("sizes", self._sizes(build.input_shapes[0][axis]))
        self.emit_split(build, [build.inputs[0], sizes])
