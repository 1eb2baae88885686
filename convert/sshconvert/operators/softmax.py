"""Softmax and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


def softmax(data: Array, axis: int | tuple[int, ...]) -> Array:
    """Return exp(data), divided by its sum along the axis. Elements of minus infinity give 0, also if all are."""
    largest = data.max(axis, keepdims=True)
    powers: Array = np.exp(data - np.where(np.isneginf(largest), 0, largest))
    return np.asarray(powers / np.maximum(powers.sum(axis, keepdims=True), np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class _Softmax(Operator):
    """A softmax along one axis of the input, divided by the temperature."""

    sign: ClassVar[int] = 1
    onnx: ClassVar[str] = "Softmax"

    axis: int
    temperature: float
    dtype: str
    has_length: bool

    @classmethod
    def read(cls, attributes: Attributes) -> _Softmax:
        return cls(has_length=cls._read_length(attributes), **cls._read_others(attributes))

    @staticmethod
    def _read_length(attributes: Attributes) -> bool:
        attributes.never("use_length")
        return False

    @staticmethod
    def _read_others(attributes: Attributes) -> dict[str, Any]:
        return {
            "axis": attributes.integer("axis", -1, least=-MAX_DIMENSIONS),
            "temperature": attributes.number("temperature", 1.0, least=1e-30),
            "dtype": attributes.choice("dtype", ("None", "float16", "float32", "float64"), "None"),
        }

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        self._axis_of(inputs[0])
        return (inputs[0],)

    def _axis_of(self, data: Shape) -> int:
        need(-len(data) <= self.axis < len(data), f"axis {self.axis} is not an axis of {data}")
        return self.axis % len(data)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0] if self.dtype == "None" else np.dtype(self.dtype),)

    def flops(self, *inputs: Shape) -> float:
        return 5

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (self._rounded(softmax(self.sign * inputs[0] / self.temperature, self.axis)),)

    def _rounded(self, result: Array) -> Array:
        return result.astype(np.float16).astype(np.float64) if self.dtype == "float16" else result

    def emit(self, build: NodeBuilder) -> None:
        self._finish(build, self.onnx, [self._emit_scaled(build)], axis=self.axis)

    def _emit_scaled(self, build: NodeBuilder) -> str:
        factor = self.sign / self.temperature
        if factor == 1:
            return build.inputs[0]
        return build.node(
            "scaled", "Mul", [build.inputs[0], build.constant("factor", np.array(factor, build.input_dtypes[0]))]
        )

    @staticmethod
    def _finish(build: NodeBuilder, operator: str, inputs: list[str], **attributes: Any) -> None:
        if build.output_dtypes[0] == build.input_dtypes[0]:
            build.finish(operator, inputs, **attributes)
        else:
            result = build.node("result", operator, inputs, **attributes)
            build.finish_cast(result)


@register
@dataclass(frozen=True)
class Softmax(_Softmax):
    """Softmax. With `use_length`, the second input is the number of elements of each row that count; the others give 0.

    MXNet reads beyond its memory for a length beyond the axis; sshtool takes it as the length of the axis.
    """

    name = "softmax"
    aliases = ("_npx_softmax",)
    inputs = ("data", "length")

    @staticmethod
    def _read_length(attributes: Attributes) -> bool:
        return attributes.boolean("use_length", default=False)

    def input_count(self) -> int:
        return 2 if self.has_length else 1

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        axis = self._axis_of(data)
        return ((*data[:axis], *data[axis + 1 :]),) if self.has_length else ()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0] / self.temperature
        if self.has_length:
            counted = self._positions(data.shape) < np.expand_dims(inputs[1], self.axis)
            data = np.where(counted, data, -np.inf)
        return (self._rounded(softmax(data, self.axis)),)

    def _positions(self, shape: Shape) -> Array:
        """Return the position of each element along the axis, in a shape that broadcasts to `shape`."""
        axis = self._axis_of(shape)
        return np.arange(shape[axis]).reshape(-1, *(1 for _ in shape[axis + 1 :]))

    def emit(self, build: NodeBuilder) -> None:
        if not self.has_length:
            super().emit(build)
            return
        axis = self._axis_of(build.input_shapes[0])
        need(not build.free_input()[axis], "a softmax with lengths needs a fixed size")
        dtype = build.input_dtypes[0]
        lengths = build.node("lengths", "Unsqueeze", [build.inputs[1], build.integers("axis", (axis,))])
        positions = build.constant("positions", self._positions(build.input_shapes[0]).astype(build.input_dtypes[1]))
        counted = build.node("counted", "Less", [positions, lengths])
        lowest = build.constant("lowest", np.array(np.finfo(dtype).min, dtype))
        masked = build.node("masked", "Where", [counted, self._emit_scaled(build), lowest])
        shares = build.node("shares", "Softmax", [masked], axis=axis)
        self._finish(build, "Where", [counted, shares, build.constant("zero", np.zeros((), dtype))])


@register
@dataclass(frozen=True)
class Softmin(_Softmax):
    """Softmax of the negated input."""

    name = "softmin"
    sign = -1


@register
@dataclass(frozen=True)
class LogSoftmax(_Softmax):
    """The logarithm of the softmax."""

    name = "log_softmax"
    aliases = ("_npx_log_softmax",)
    onnx = "LogSoftmax"

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0] / self.temperature
        shifted = data - data.max(self.axis, keepdims=True)
        return (self._rounded(shifted - np.log(np.exp(shifted).sum(self.axis, keepdims=True))),)


@register
@dataclass(frozen=True)
class SoftmaxActivation(Operator):
    """Softmax over the channels, or over all elements of each instance.

    Where an instance has several axes, MXNet on a CPU takes the last axis alone, against its documentation.
    """

    name = "SoftmaxActivation"
    restrictions = "With `channel`, the input has spatial axes."

    mode: str

    @classmethod
    def read(cls, attributes: Attributes) -> SoftmaxActivation:
        return cls(attributes.choice("mode", ("instance", "channel"), "instance"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.mode == "channel":
            need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        need(len(inputs[0]) > 1, f"the input {inputs[0]} has one axis")
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 5

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (softmax(inputs[0], 1 if self.mode == "channel" else tuple(range(1, inputs[0].ndim))),)

    def emit(self, build: NodeBuilder) -> None:
        data = build.inputs[0]
        if self.mode == "channel" or len(build.input_shapes[0]) == 2:
            build.finish("Softmax", [data], axis=1)
            return
        rows = build.node("rows", "Flatten", [data], axis=1)
        shares = build.node("shares", "Softmax", [rows], axis=1)
        build.finish("Reshape", [shares, build.node("shape", "Shape", [data])])
