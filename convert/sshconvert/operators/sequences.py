"""Operators on sequences, which have lengths of their own in a batch.

The sequences lie along one of the first two axes, and the batch along the other. A length is cut to a whole number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, MAX_INTEGER, Attributes
from sshconvert.operators.axes import emit_sizes, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@dataclass(frozen=True)
class _Sequences(Operator):
    """Sequences along `axis`. Without lengths, all are as long as the axis."""

    inputs = ("data", "sequence_length")

    axis: int
    has_lengths: bool

    def input_count(self) -> int:
        return 2 if self.has_lengths else 1

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) > 1, f"sequences need 2 dimensions, not {data}")
        return ((data[1 - self.axis],),) if self.has_lengths else ()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        expected = self.parameter_shapes(inputs[0])
        need(inputs[1:] == expected, f"lengths of {inputs[1:]}, expected {expected}")
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def steps_first(self, *inputs: Array) -> tuple[Array, Array, Array]:
        """Return the data [steps, batch, ...], the numbers of the steps [steps, 1], and the lengths [batch]."""
        data = np.moveaxis(inputs[0], self.axis, 0)
        steps = np.arange(len(data))[:, np.newaxis]
        lengths = np.trunc(inputs[1]).astype(np.int64) if self.has_lengths else np.full(data.shape[1], len(data))
        return data, steps, lengths


def _read_sequences(attributes: Attributes, *, last_axis: int = 1) -> tuple[int, bool]:
    """Read the fields of `_Sequences`."""
    return (
        attributes.integer("axis", 0, most=last_axis),
        attributes.boolean("use_sequence_length", default=False),
    )


@register
@dataclass(frozen=True)
class SequenceMask(_Sequences):
    """The sequences, with `value` behind the end of each."""

    name = "SequenceMask"

    value: float

    @classmethod
    def read(cls, attributes: Attributes) -> SequenceMask:
        return cls(*_read_sequences(attributes), attributes.number("value", 0, least=-MAX_FLOAT32))

    def flops(self, *inputs: Shape) -> float:
        return int(self.has_lengths)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, steps, lengths = self.steps_first(*inputs)
        inside = (steps < lengths).reshape(*data.shape[:2], *(1,) * (data.ndim - 2))
        masked = np.where(inside, data, np.array(np.float32(self.value)).astype(data.dtype))
        return (np.moveaxis(masked, 0, self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        if not self.has_lengths:
            build.finish("Identity", build.inputs)
            return
        others = [axis for axis in range(len(build.input_shapes[0])) if axis != self.axis]
        lengths = build.cast("whole", build.inputs[1], np.int64)
        not_batch = [axis for axis in range(len(others) + 1) if axis != 1 - self.axis]
        rows = build.node("lengths", "Unsqueeze", [lengths, build.integers("not_batch", not_batch)])
        steps = build.node("steps", "Unsqueeze", [self._emit_steps(build), build.integers("others", others)])
        inside = build.node("inside", "Less", [steps, rows])
        value = build.constant("value", np.array(np.float32(self.value)).astype(build.input_dtypes[0]))
        build.finish("Where", [inside, build.inputs[0], value])

    def _emit_steps(self, build: NodeBuilder) -> str:
        if not build.free_input()[self.axis]:
            return build.integers("numbers", range(build.input_shapes[0][self.axis]))
        size = emit_sizes(build, "size", build.inputs[0], (self.axis,))
        count = build.node("count", "Squeeze", [size])
        return build.node("numbers", "Range", [build.integers("first", 0), count, build.integers("one", 1)])


@register
@dataclass(frozen=True)
class SequenceReverse(_Sequences):
    """The steps of each sequence in reverse order; those behind its end stay."""

    name = "SequenceReverse"
    value_preserving = ("ReverseSequence", "Slice")

    @classmethod
    def read(cls, attributes: Attributes) -> SequenceReverse:
        return cls(*_read_sequences(attributes, last_axis=0))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, steps, lengths = self.steps_first(*inputs)
        order = np.where(steps < lengths, lengths - 1 - steps, steps)
        return (np.take_along_axis(data, order.reshape(*order.shape, *(1,) * (data.ndim - 2)), 0),)

    def emit(self, build: NodeBuilder) -> None:
        if self.has_lengths:
            lengths = build.cast("lengths", build.inputs[1], np.int64)
            build.finish("ReverseSequence", [build.inputs[0], lengths], time_axis=0, batch_axis=1)
            return
        limits = {"begin": -1, "end": -MAX_INTEGER, "axis": 0, "step": -1}
        build.finish("Slice", [build.inputs[0], *(build.integers(role, (value,)) for role, value in limits.items())])


@register
@dataclass(frozen=True)
class SequenceLast(_Sequences):
    """The last step of each sequence, without the axis of steps."""

    name = "SequenceLast"
    value_preserving = ("Gather", "GatherND", "Transpose")
    restrictions = "Each length is from 1 to the size of the axis."

    @classmethod
    def read(cls, attributes: Attributes) -> SequenceLast:
        return cls(*_read_sequences(attributes))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        super().output_shapes(*inputs)
        return (replaced(inputs[0], self.axis),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, _, lengths = self.steps_first(*inputs)
        return (data[lengths - 1, np.arange(data.shape[1])],)

    def emit(self, build: NodeBuilder) -> None:
        data = build.inputs[0]
        if not self.has_lengths:
            build.finish("Gather", [data, build.integers("last", -1)], axis=self.axis)
            return
        if self.axis == 0:
            order = (1, 0, *range(2, len(build.input_shapes[0])))
            data = build.node("batch_first", "Transpose", [data], perm=order)
        lengths = build.cast("whole", build.inputs[1], np.int64)
        last = build.node("last", "Sub", [lengths, build.integers("one", (1,))])
        index = build.node("index", "Unsqueeze", [last, build.integers("axis", (1,))])
        build.finish("GatherND", [data, index], batch_dims=1)
