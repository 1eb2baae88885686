"""Reductions along axes, the indices of extrema, and cumulative sums.

A reduction over all axes without `keepdims` gives the shape (1,), because MXNet has no scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.binary import need_computable
from sshconvert.operators.casting import converted
from sshconvert.operators.registry import register, register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# From this operator set on, every reduction reads its axes from an input, and before, only ReduceSum does.
AXES_AS_INPUT: Final = 18


def reduced_axes(axes: Sequence[int], exclude: bool, shape: Shape) -> tuple[int, ...]:
    """Return the axes that a reduction removes, in order: all for no `axes`. Raises ShapeError."""
    need(all(-len(shape) <= axis < len(shape) for axis in axes), f"the axes {tuple(axes)} are not all axes of {shape}")
    positive = sorted(axis % len(shape) for axis in axes)
    need(len(set(positive)) == len(positive), f"the axes {tuple(axes)} of {shape} repeat")
    if not positive:
        return tuple(range(len(shape)))
    return tuple(axis for axis in range(len(shape)) if (axis in positive) != exclude)


def reduced_shape(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    """Return the shape without the axes, or with sizes of 1 in their place; (1,) if no axis is left."""
    if keep:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes) or (1,)


def emit_reduction(build: NodeBuilder, operator: str, data: str, axes: Sequence[int], keep: bool) -> None:
    """Finish with a reduction of a tensor with the shape of the first input."""
    if len(axes) == len(build.input_shapes[0]) and not keep:
        data = build.node("flat", "Reshape", [data, build.integers("flat_shape", (-1,))])
        axes, keep = (0,), True
    if operator == "ReduceSum" or build.opset >= AXES_AS_INPUT:
        build.finish(operator, [data, build.integers("axes", axes)], keepdims=int(keep))
    else:
        build.finish(operator, [data], axes=tuple(axes), keepdims=int(keep))


@dataclass(frozen=True)
class Function:
    """A reduction: its definition in NumPy, the ONNX operator, and whether it takes integers.

    A NaN becomes `missing` first, unless that is None.
    """

    evaluate: Callable[..., Array]
    onnx: str
    takes_integers: bool = True
    missing: float | None = None


FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "sum": Function(np.sum, "ReduceSum"),
        "mean": Function(np.mean, "ReduceMean", takes_integers=False),
        "prod": Function(np.prod, "ReduceProd"),
        "max": Function(np.max, "ReduceMax"),
        "min": Function(np.min, "ReduceMin"),
        "nansum": Function(np.nansum, "ReduceSum", takes_integers=False, missing=0),
        "nanprod": Function(np.nanprod, "ReduceProd", takes_integers=False, missing=1),
    }
)
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"sum": ("sum_axis",), "max": ("max_axis",), "min": ("min_axis",)}
)


@dataclass(frozen=True)
class _Reduction(Operator):
    """A reduction along `axis`, one or several, or along all other axes with `exclude`."""

    function: ClassVar[Function]

    axes: tuple[int, ...]
    keep: bool
    exclude: bool

    @classmethod
    def read(cls, attributes: Attributes) -> _Reduction:
        return cls(
            attributes.integers("axis", (), least=-MAX_INTEGER),
            attributes.boolean("keepdims", default=False),
            attributes.boolean("exclude", default=False),
        )

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        return reduced_axes(self.axes, self.exclude, shape)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axes = self._axes(inputs[0])
        return (reduced_shape(inputs[0], axes, self.keep) if axes else inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        need(self.function.takes_integers or inputs[0].kind == "f", f"cannot compute {self.name} of {inputs[0]}")
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return math.prod(inputs[0]) / math.prod(self.output_shapes(inputs[0])[0])

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        shape = self.output_shapes(inputs[0].shape)[0]
        return (np.asarray(self.function.evaluate(inputs[0], axis=self._axes(inputs[0].shape))).reshape(shape),)

    def emit(self, build: NodeBuilder) -> None:
        (data,) = build.inputs
        axes = self._axes(build.input_shapes[0])
        if self.function.missing is not None:
            is_missing = build.node("is_missing", "IsNaN", [data])
            data = build.node("present", "Where", [is_missing, build.floats("missing", self.function.missing), data])
        if axes:
            emit_reduction(build, self.function.onnx, data, axes, self.keep)
        else:
            build.finish("Identity", [data])


for _name, _function in FUNCTIONS.items():
    register_kind(_Reduction, _name, *_ALIASES.get(_name, ()), function=_function)


@register
@dataclass(frozen=True)
class Norm(Operator):
    """Sums of absolute values (`ord` 1), or roots of sums of squares (`ord` 2), along `axis` or along all axes."""

    name = "norm"
    restrictions = "The result is float32."

    order: int
    axes: tuple[int, ...]
    keep: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Norm:
        attributes.choice("out_dtype", ("None", "float32"), "None")
        return cls(
            attributes.integer("ord", 2, least=1, most=2),
            attributes.integers("axis", (), least=-MAX_INTEGER),
            attributes.boolean("keepdims", default=False),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (reduced_shape(inputs[0], reduced_axes(self.axes, False, inputs[0]), self.keep),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need(inputs[0] == np.float32, f"cannot compute {self.name} of {inputs[0]}")
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return self.order * math.prod(inputs[0]) / math.prod(self.output_shapes(inputs[0])[0])

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        (data,) = inputs
        axes = reduced_axes(self.axes, False, data.shape)
        norms = np.abs(data).sum(axes) if self.order == 1 else np.sqrt(np.square(data).sum(axes))
        return (np.asarray(norms).reshape(self.output_shapes(data.shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        (data,), axes = build.inputs, reduced_axes(self.axes, False, build.input_shapes[0])
        if self.order == 1:  # OpenVINO loses the shape of a ReduceL1 without keepdims
            emit_reduction(build, "ReduceSum", build.node("absolute", "Abs", [data]), axes, self.keep)
        else:
            emit_reduction(build, "ReduceL2", data, axes, self.keep)


@dataclass(frozen=True)
class _Extremum(Operator):
    """The index of the first extremum along `axis`, or among all elements, in the input's type."""

    restrictions = "Of equal extrema, the first counts."
    old_defaults = MappingProxyType({"axis": "-1"})  # over all axes

    function: ClassVar[Callable[..., Array]]
    onnx: ClassVar[str]

    axis: int | None
    keep: bool

    @classmethod
    def read(cls, attributes: Attributes) -> _Extremum:
        return cls(
            attributes.optional_integer("axis", least=-MAX_INTEGER), attributes.boolean("keepdims", default=False)
        )

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        return reduced_axes(() if self.axis is None else (self.axis,), False, shape)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (reduced_shape(inputs[0], self._axes(inputs[0]), self.keep),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return math.prod(inputs[0]) / math.prod(self.output_shapes(inputs[0])[0])

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        indices = type(self).function(inputs[0], axis=self.axis)
        return (np.asarray(indices).astype(inputs[0].dtype).reshape(self.output_shapes(inputs[0].shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        data, shape = build.inputs[0], build.input_shapes[0]
        if self.axis is not None and (self.keep or len(shape) > 1):
            indices = build.node("indices", self.onnx, [data], axis=self.axis % len(shape), keepdims=int(self.keep))
            build.finish_cast(indices)
            return
        if len(shape) > 1:
            data = build.node("flat", "Reshape", [data, build.integers("flat_shape", (-1,))])
        indices = build.node("indices", self.onnx, [data], axis=0, keepdims=1)
        if self.keep and len(shape) > 1:
            indices = build.node("kept", "Reshape", [indices, build.integers("shape", (1,) * len(shape))])
        build.finish_cast(indices)


register_kind(_Extremum, "argmax", function=np.argmax, onnx="ArgMax")
register_kind(_Extremum, "argmin", function=np.argmin, onnx="ArgMin")


@register
@dataclass(frozen=True)
class ArgmaxChannel(_Extremum):
    """The index of the first largest element along the second axis."""

    name = "argmax_channel"
    function = np.argmax
    onnx = "ArgMax"

    @classmethod
    def read(cls, attributes: Attributes) -> ArgmaxChannel:
        return cls(1, keep=False)


@register
@dataclass(frozen=True)
class Moments(Operator):
    """The mean and the variance along `axes`."""

    name = "moments"

    axes: tuple[int, ...]
    keep: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Moments:
        return cls(attributes.integers("axes", least=-MAX_INTEGER), attributes.boolean("keepdims", default=False))

    def output_names(self) -> tuple[str, ...]:
        return ("output0", "output1")

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (reduced_shape(inputs[0], reduced_axes(self.axes, False, inputs[0]), self.keep),) * 2

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need(inputs[0] == np.float32, f"cannot compute {self.name} of {inputs[0]}")
        return inputs * 2

    def flops(self, *inputs: Shape) -> float:
        return 4 * math.prod(inputs[0]) / math.prod(self.output_shapes(inputs[0])[0])

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        axes, shape = reduced_axes(self.axes, False, inputs[0].shape), self.output_shapes(inputs[0].shape)[0]
        return tuple(np.asarray(array).reshape(shape) for array in (inputs[0].mean(axes), inputs[0].var(axes)))

    def emit(self, build: NodeBuilder) -> None:
        (data,), axes = build.inputs, reduced_axes(self.axes, False, build.input_shapes[0])
        means = self._mean(build, "means", data, axes)
        deviations = build.node("deviations", "Sub", [data, means])
        squares = build.node("squares", "Mul", [deviations, deviations])
        variances = self._mean(build, "variances", squares, axes)
        for output, tensor in zip(build.outputs, (means, variances), strict=True):
            if self.keep:
                build.output(output, "Identity", [tensor])
            elif len(axes) == len(build.input_shapes[0]):
                build.output(output, "Reshape", [tensor, build.integers("single", (1,))])
            else:
                build.output(output, "Squeeze", [tensor, build.integers("axes", axes)])

    @staticmethod
    def _mean(build: NodeBuilder, role: str, data: str, axes: Sequence[int]) -> str:
        if build.opset >= AXES_AS_INPUT:
            return build.node(role, "ReduceMean", [data, build.integers("axes", axes)], keepdims=1)
        return build.node(role, "ReduceMean", [data], axes=tuple(axes), keepdims=1)


@register
@dataclass(frozen=True)
class CumulativeSum(Operator):
    """The sums of all elements so far along `axis`, or of all elements as one axis."""

    name = "cumsum"
    inputs = ("a",)
    restrictions = "`axis` is not negative, as in MXNet."

    axis: int | None
    dtype: DType | None

    @classmethod
    def read(cls, attributes: Attributes) -> CumulativeSum:
        axis = attributes.optional_integer("axis")
        name = attributes.choice("dtype", ("None", "float32", "int32", "int64"), "None")
        return cls(axis, None if name == "None" else np.dtype(name))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.axis is None:
            return ((math.prod(inputs[0]),),)
        need(self.axis < len(inputs[0]), f"axis {self.axis} is not an axis of {inputs[0]}")
        return inputs

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        return (self.dtype or inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0] if self.dtype is None else converted(inputs[0], self.dtype)
        return (np.cumsum(data, self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        (data,) = build.inputs
        if build.input_dtypes[0] != build.output_dtypes[0]:
            data = build.cast("converted", data, build.output_dtypes[0])
        if self.axis is None:
            data = build.node("flat", "Reshape", [data, build.integers("flat_shape", (-1,))])
        build.finish("CumSum", [data, build.integers("axis", self.axis or 0)])
