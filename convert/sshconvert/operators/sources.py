"""Tensors that depend on no values: constants, ranges, and the shapes of tensors."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, MAX_INTEGER, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.casting import converted, read_dtype
from sshconvert.operators.registry import register, register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

INT64: Final = np.dtype(np.int64)
LARGEST: Final = 1 << 24  # elements of a sequence, which the model file holds


def _rounded(value: float, dtype: DType) -> Any:
    """Return a scalar attribute in the evaluation's type, after its conversion to a tensor's type."""
    return converted(np.array(value, np.float32), dtype)[()]


def _read_output(attributes: Attributes) -> DType:
    attributes.without_effect("ctx")
    return read_dtype(attributes)


@dataclass(frozen=True)
class _Source(Operator):
    """An operator without inputs. Its output has the type `dtype`."""

    inputs = ()

    dtype: DType

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (self.dtype,)


@dataclass(frozen=True)
class _Filled(_Source):
    """A tensor of one value. A reader of the tensor decides sizes of 0."""

    restrictions = "The reader of the tensor decides sizes of 0."

    shape: Shape
    value: float

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (self.shape,)

    def with_shape(self, shape: Shape) -> Operator:
        return replace(self, shape=shape)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.full(self.shape, _rounded(self.value, self.dtype)),)

    def emit(self, build: NodeBuilder) -> None:
        value = build.constant("value", np.array(_rounded(self.value, self.dtype), self.dtype))
        build.finish("Expand", [value, build.integers("shape", self.shape)])


@dataclass(frozen=True)
class _Uniform(_Filled):
    constant: ClassVar[float]

    @classmethod
    def read(cls, attributes: Attributes) -> _Uniform:
        return cls(_read_output(attributes), attributes.integers("shape"), cls.constant)


register_kind(_Uniform, "_zeros", constant=0.0)
register_kind(_Uniform, "_ones", constant=1.0)


@register
@dataclass(frozen=True)
class Full(_Filled):
    """A tensor of `value`."""

    name = "_full"

    @classmethod
    def read(cls, attributes: Attributes) -> Full:
        value = attributes.number("value", None, least=-MAX_FLOAT32)
        return cls(_read_output(attributes), attributes.integers("shape"), value)


@dataclass(frozen=True)
class _Sequence(_Source):
    """A tensor that the model file holds."""

    @abstractmethod
    def values(self) -> Array:
        """Return the values before their conversion to the tensor's type."""

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (converted(self.values(), self.dtype),)

    def emit(self, build: NodeBuilder) -> None:
        elements = math.prod(build.output_shapes[0])
        need(elements <= LARGEST, f"{elements} elements, expected at most {LARGEST}")
        build.finish("Identity", [build.constant("values", self.evaluate()[0].astype(self.dtype))])


@register
@dataclass(frozen=True)
class Arange(_Sequence):
    """Numbers from `start` (0 if `stop` is missing) up to `stop`, each `repeat` times.

    With `infer_range` and without `stop`, the reader of the tensor decides their number.
    """

    name = "_arange"

    start: float
    stop: float | None
    step: float
    times: int
    length: int = 0

    @classmethod
    def read(cls, attributes: Attributes) -> Arange:
        start = attributes.number("start", None, least=-MAX_FLOAT32)
        missing = math.nan
        stop = attributes.number("stop", missing, least=-MAX_FLOAT32)
        step = attributes.number("step", 1, least=-MAX_FLOAT32)
        times = attributes.integer("repeat", 1, least=1)
        is_open = attributes.boolean("infer_range", default=False) and math.isnan(stop)
        if math.isnan(stop) and not is_open:
            start, stop = 0, start
        return cls(_read_output(attributes), start, None if is_open else stop, step, times)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.stop is None:
            return ((self.length,),)
        need(self.step != 0 and (self.stop - self.start) / self.step > 0, "the range is empty")
        return ((math.ceil((self.stop - self.start) / self.step) * self.times,),)

    def with_shape(self, shape: Shape) -> Operator:
        return replace(self, length=shape[0])

    def values(self) -> Array:
        ((count,),) = self.output_shapes()
        numbers = np.arange(count) // self.times
        return np.asarray(_rounded(self.start, self.dtype) + numbers * _rounded(self.step, self.dtype))


@register
@dataclass(frozen=True)
class Linspace(_Sequence):
    """`num` numbers at equal distances from `start` to `stop`, which is the last with `endpoint`."""

    name = "_linspace"

    start: float
    stop: float
    count: int
    endpoint: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Linspace:
        start, stop = (attributes.number(name, None, least=-MAX_FLOAT32) for name in ("start", "stop"))
        count = attributes.integer("num", least=1)
        endpoint = attributes.boolean("endpoint", default=True)
        return cls(_read_output(attributes), start, stop, count, endpoint)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((self.count,),)

    def values(self) -> Array:
        return np.linspace(self.start, self.stop, self.count, endpoint=self.endpoint)


@register
@dataclass(frozen=True)
class Eye(_Sequence):
    """A matrix of `N` rows and `M` columns (by default `N`), with ones on the diagonal `k`."""

    name = "_eye"

    rows: int
    columns: int
    diagonal: int

    @classmethod
    def read(cls, attributes: Attributes) -> Eye:
        rows, columns = attributes.integer("N", least=1), attributes.integer("M", 0)
        diagonal = attributes.integer("k", 0, least=-MAX_INTEGER)
        return cls(_read_output(attributes), rows, columns or rows, diagonal)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((self.rows, self.columns),)

    def values(self) -> Array:
        return np.eye(self.rows, self.columns, self.diagonal)


@dataclass(frozen=True)
class _UniformLike(Operator):
    """A tensor of one value, with the shape and the type of the input."""

    reads_values = False

    constant: ClassVar[int]

    @classmethod
    def read(cls, attributes: Attributes) -> _UniformLike:
        attributes.without_effect("dtype")
        return cls()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.full_like(inputs[0], self.constant),)

    def emit(self, build: NodeBuilder) -> None:
        value = build.constant("value", np.array(self.constant, build.output_dtypes[0]))
        build.finish("Expand", [value, build.sizes("shape")])


register_kind(_UniformLike, "zeros_like", constant=0)
register_kind(_UniformLike, "ones_like", constant=1)


@register
@dataclass(frozen=True)
class ArangeLike(Operator):
    """Numbers from `start`, each `repeat` times, as many as the input has along `axis`, or in its shape."""

    name = "_contrib_arange_like"
    reads_values = False
    restrictions = "Without `axis`, the input has a fixed size. The input is float32."

    start: float
    step: float
    times: int
    axis: int | None

    @classmethod
    def read(cls, attributes: Attributes) -> ArangeLike:
        attributes.without_effect("ctx")
        return cls(
            attributes.number("start", 0, least=-MAX_FLOAT32),
            attributes.number("step", 1, least=-MAX_FLOAT32),
            attributes.integer("repeat", 1, least=1),
            attributes.optional_integer("axis", least=-MAX_INTEGER),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.axis is None:
            return inputs
        need(-len(inputs[0]) <= self.axis < len(inputs[0]), f"axis {self.axis} is not an axis of {inputs[0]}")
        return ((inputs[0][self.axis],),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need(inputs[0] == np.float32, f"an input of the type {inputs[0]}, expected float32")
        return inputs

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        (shape,) = self.output_shapes(inputs[0].shape)
        numbers = np.arange(math.prod(shape)).reshape(shape) // self.times
        return (np.asarray(np.float64(np.float32(self.start)) + numbers * np.float64(np.float32(self.step))),)

    def emit(self, build: NodeBuilder) -> None:
        if not any(build.free_output):
            (values,) = self.evaluate(np.broadcast_to(np.float64(0), build.input_shapes[0]))
            build.finish("Identity", [build.floats("values", values)])
            return
        need(self.axis is not None, "needs a fixed size")
        count = build.node("count", "Gather", [build.node("shape", "Shape", build.inputs), self._axis(build)])
        zero, one = build.integers("zero", 0), build.integers("one", 1)
        numbers = build.node("numbers", "Range", [zero, count, one])
        if self.times > 1:
            numbers = build.node("repeated", "Div", [numbers, build.integers("repeat", self.times)])
        steps = build.node("steps", "Mul", [build.cast("floats", numbers), build.floats("step", self.step)])
        build.finish("Add", [steps, build.floats("start", self.start)])

    def _axis(self, build: NodeBuilder) -> str:
        return build.integers("axis", (self.axis or 0) % len(build.input_shapes[0]))


@register
@dataclass(frozen=True)
class ShapeArray(Operator):
    """The shape of the input, int64 [dimensions]."""

    name = "shape_array"
    reads_values = False

    @classmethod
    def read(cls, attributes: Attributes) -> ShapeArray:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((len(inputs[0]),),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (INT64,)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.array(inputs[0].shape, np.int64),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Shape", build.inputs)


@register
@dataclass(frozen=True)
class SizeArray(Operator):
    """The number of elements of the input, int64 [1]."""

    name = "size_array"
    reads_values = False

    @classmethod
    def read(cls, attributes: Attributes) -> SizeArray:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((1,),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (INT64,)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.array([inputs[0].size], np.int64),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("ReduceProd", [build.node("shape", "Shape", build.inputs)], keepdims=1)
