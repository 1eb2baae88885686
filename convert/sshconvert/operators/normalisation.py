"""Normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


def _read_eps(attributes: Attributes, default: float) -> float:
    """Read `eps`, which MXNet stores as float32."""
    return float(np.float32(attributes.number("eps", default)))


def _along(values: Array, axis: int, dimensions: int) -> Array:
    """Return a vector in the shape that broadcasts along one axis of a tensor."""
    return values.reshape(-1, *[1] * (dimensions - 1 - axis))


@dataclass(frozen=True)
class _Normalisation(Operator):
    """Normalisation of floating-point numbers, whose first output has the shape of the input."""

    eps: float

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],) * len(self.output_names())


@register
@dataclass(frozen=True)
class BatchNorm(_Normalisation):
    """Batch normalisation along one axis with stored statistics: gamma * (x - mean) / sqrt(variance + eps) + beta.

    MXNet's defaults differ from other frameworks: eps is 1e-3, and `fix_gamma` replaces gamma by 1, whatever the file
    holds. With `output_mean_var`, the other outputs are the mean and 1 / sqrt(variance + eps).
    """

    name = "BatchNorm"
    aliases: ClassVar[tuple[str, ...]] = ("BatchNorm_v1", "CuDNNBatchNorm", "_npx_batch_norm")
    inputs = ("data", "gamma", "beta", "moving_mean", "moving_var")
    auxiliaries = 2

    fix_gamma: bool
    axis: int
    outputs_statistics: bool

    @classmethod
    def read(cls, attributes: Attributes) -> BatchNorm:
        attributes.without_effect("momentum", "use_global_stats", "cudnn_off", "min_calib_range", "max_calib_range")
        return cls(
            eps=attributes.number("eps", 1e-3),
            fix_gamma=attributes.boolean("fix_gamma", default=True),
            axis=attributes.integer("axis", 1, least=-MAX_DIMENSIONS),
            outputs_statistics=attributes.boolean("output_mean_var", default=False),
        )

    def output_names(self) -> tuple[str, ...]:
        return ("output", "mean", "var") if self.outputs_statistics else ("output",)

    def _axis_of(self, data: Shape) -> int:
        need(-len(data) <= self.axis < len(data), f"{data} has no axis {self.axis}")
        return self.axis % len(data)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return ((data[self._axis_of(data)],),) * 4

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (inputs[0], *inputs[3:][: len(self.output_names()) - 1])

    def flops(self, *inputs: Shape) -> float:
        return 2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, gamma, beta, mean, variance = inputs
        inverse = 1 / np.sqrt(variance + self.eps)
        factor = inverse if self.fix_gamma else gamma * inverse
        axis, dimensions = self._axis_of(data.shape), data.ndim
        centred = data - _along(mean, axis, dimensions)
        result = centred * _along(factor, axis, dimensions) + _along(beta, axis, dimensions)
        return (result, mean, inverse)[: len(self.output_names())]

    def emit(self, build: NodeBuilder) -> None:
        self._emit_result(build, build.outputs[0])
        if self.outputs_statistics:
            build.output(build.outputs[1], "Identity", [build.inputs[3]])
            shifted = build.node("shifted", "Add", [build.inputs[4], build.floats("eps", self.eps)])
            build.output(build.outputs[2], "Reciprocal", [build.node("deviation", "Sqrt", [shifted])])

    def _emit_result(self, build: NodeBuilder, result: str) -> None:
        data, gamma, *others = build.inputs
        shape = build.input_shapes[0]
        axis, dimensions = self._axis_of(shape), len(shape)
        if self.fix_gamma:
            gamma = build.constant("gamma", np.broadcast_to(np.float32(1), build.input_shapes[1]))
        if axis == 1:
            build.output(result, "BatchNormalization", [data, gamma, *others], epsilon=self.eps)
            return
        order = [axis, *(other for other in range(dimensions) if other != axis)]
        if dimensions > 1:
            order = [*order[1:2], axis, *order[2:]]
            moved = build.node("moved", "Transpose", [data], perm=order)
            normal = build.node("normal", "BatchNormalization", [moved, gamma, *others], epsilon=self.eps)
            build.output(result, "Transpose", [normal], perm=np.argsort(order).tolist())
            return
        row = build.node("row", "Unsqueeze", [data, build.integers("first", (0,))])
        normal = build.node("normal", "BatchNormalization", [row, gamma, *others], epsilon=self.eps)
        build.output(result, "Squeeze", [normal, build.integers("before", (0,))])


@register
@dataclass(frozen=True)
class SyncBatchNorm(BatchNorm):
    """Batch normalisation whose training spreads over devices: at inference, `BatchNorm` along the channels."""

    name = "_contrib_SyncBatchNorm"
    aliases = ("SyncBatchNorm",)

    @classmethod
    def read(cls, attributes: Attributes) -> SyncBatchNorm:
        attributes.without_effect("momentum", "use_global_stats", "ndev", "key")
        attributes.never("output_mean_var")
        eps = _read_eps(attributes, 1e-3)
        return cls(eps, attributes.boolean("fix_gamma", default=True), axis=1, outputs_statistics=False)


@register
@dataclass(frozen=True)
class BatchNormWithReLU(BatchNorm):
    """`BatchNorm`, whose negative results become 0."""

    name = "_contrib_BatchNormWithReLU"
    aliases = ()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        result, *statistics = super().evaluate(*inputs)
        return (np.maximum(result, 0), *statistics)

    def _emit_result(self, build: NodeBuilder, result: str) -> None:
        normal = build.name("normal")
        super()._emit_result(build, normal)
        build.output(result, "Relu", [normal])


@register
@dataclass(frozen=True)
class InstanceNorm(_Normalisation):
    """Normalisation of each channel of each instance by its own mean and variance, then gamma and beta by channel."""

    name = "InstanceNorm"
    inputs = ("data", "gamma", "beta")
    restrictions = "The input has spatial axes."

    @classmethod
    def read(cls, attributes: Attributes) -> InstanceNorm:
        return cls(_read_eps(attributes, 1e-3))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) > 2, f"the input {data} has no spatial axes")
        return ((data[1],),) * 2

    def flops(self, *inputs: Shape) -> float:
        return 8

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, gamma, beta = inputs
        axes = tuple(range(2, data.ndim))
        normal = (data - data.mean(axes, keepdims=True)) / np.sqrt(data.var(axes, keepdims=True) + self.eps)
        return (normal * _along(gamma, 1, data.ndim) + _along(beta, 1, data.ndim),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("InstanceNormalization", build.inputs, epsilon=self.eps)


@dataclass(frozen=True)
class _Grouped(_Normalisation):
    """Normalisation by a mean and a variance, which may be outputs too: the mean and sqrt(variance + eps)."""

    inputs = ("data", "gamma", "beta")

    outputs_statistics: bool

    def output_names(self) -> tuple[str, ...]:
        return ("output", "mean", "std") if self.outputs_statistics else ("output",)

    def flops(self, *inputs: Shape) -> float:
        return 8

    def _statistics(self, data: Array, axes: Shape) -> tuple[Array, Array]:
        return data.mean(axes, keepdims=True), np.sqrt(data.var(axes, keepdims=True) + self.eps)

    def _emit_statistics(self, build: NodeBuilder, data: str, axes: Shape) -> tuple[str, str, str]:
        """Emit the data without its mean, the mean and the deviation, with axes of size 1."""
        mean = _emit_mean(build, "average", data, axes)
        centred = build.node("centred", "Sub", [data, mean])
        variance = _emit_mean(build, "variance", build.node("squares", "Mul", [centred, centred]), axes)
        shifted = build.node("shifted", "Add", [variance, build.floats("eps", self.eps)])
        return centred, mean, build.node("deviation", "Sqrt", [shifted])


_AXES_ARE_INPUTS = 18  # the operator set since which ReduceMean takes its axes as an input


def _emit_mean(build: NodeBuilder, role: str, data: str, axes: Shape) -> str:
    if build.opset < _AXES_ARE_INPUTS:
        return build.node(role, "ReduceMean", [data], axes=axes, keepdims=1)
    return build.node(role, "ReduceMean", [data, build.integers(f"{role}_axes", axes)], keepdims=1)


@register
@dataclass(frozen=True)
class LayerNorm(_Grouped):
    """Normalisation along one axis, then gamma and beta for each place along it."""

    name = "LayerNorm"
    aliases = ("_npx_layer_norm",)

    axis: int

    @classmethod
    def read(cls, attributes: Attributes) -> LayerNorm:
        return cls(
            eps=_read_eps(attributes, 1e-5),
            outputs_statistics=attributes.boolean("output_mean_var", default=False),
            axis=attributes.integer("axis", -1, least=-MAX_DIMENSIONS),
        )

    def _axis_of(self, data: Shape) -> int:
        need(-len(data) <= self.axis < len(data), f"{data} has no axis {self.axis}")
        return self.axis % len(data)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return ((data[self._axis_of(data)],),) * 2

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, axis = inputs[0], self._axis_of(inputs[0])
        reduced = (*data[:axis], 1, *data[axis + 1 :])
        return (data, reduced, reduced)[: len(self.output_names())]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, gamma, beta = inputs
        axis = self._axis_of(data.shape)
        mean, deviation = self._statistics(data, (axis,))
        result = (data - mean) / deviation * _along(gamma, axis, data.ndim) + _along(beta, axis, data.ndim)
        return (result, mean, deviation)[: len(self.output_names())]

    def emit(self, build: NodeBuilder) -> None:
        axis, dimensions = self._axis_of(build.input_shapes[0]), len(build.input_shapes[0])
        centred, mean, deviation = self._emit_statistics(build, build.inputs[0], (axis,))
        gamma, beta = (_emit_along(build, number, axis, dimensions) for number in (1, 2))
        scaled = build.node("scaled", "Mul", [build.node("normal", "Div", [centred, deviation]), gamma])
        build.output(build.outputs[0], "Add", [scaled, beta])
        if self.outputs_statistics:
            build.output(build.outputs[1], "Identity", [mean])
            build.output(build.outputs[2], "Identity", [deviation])


def _emit_along(build: NodeBuilder, number: int, axis: int, dimensions: int) -> str:
    """Emit an input, a vector, in the shape that broadcasts along an axis."""
    tensor, behind = build.inputs[number], tuple(range(1, dimensions - axis))
    if not behind:
        return tensor
    if tensor in build.values:
        return build.floats(f"along{number}", _along(build.values[tensor], axis, dimensions))
    return build.node(f"along{number}", "Unsqueeze", [tensor, build.integers(f"behind{number}", behind)])


@register
@dataclass(frozen=True)
class GroupNorm(_Grouped):
    """Normalisation of each group of channels, then gamma and beta by group."""

    name = "GroupNorm"
    restrictions = "The input has spatial axes."

    groups: int

    @classmethod
    def read(cls, attributes: Attributes) -> GroupNorm:
        return cls(
            eps=_read_eps(attributes, 1e-5),
            outputs_statistics=attributes.boolean("output_mean_var", default=False),
            groups=attributes.integer("num_groups", 1, least=1),
        )

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) > 2, f"the input {data} has no spatial axes")
        need(data[1] % self.groups == 0, f"{data[1]} channels do not divide into {self.groups} groups")
        return ((self.groups,),) * 2

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        groups = (inputs[0][0], self.groups)
        return (inputs[0], groups, groups)[: len(self.output_names())]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, gamma, beta = inputs
        rows = data.reshape(len(data), self.groups, -1)
        mean, deviation = self._statistics(rows, (2,))
        result = ((rows - mean) / deviation * gamma[:, None] + beta[:, None]).reshape(data.shape)
        return (result, mean[..., 0], deviation[..., 0])[: len(self.output_names())]

    def emit(self, build: NodeBuilder) -> None:
        rows = build.node("rows", "Reshape", [build.inputs[0], build.integers("groups", (0, self.groups, -1))])
        normal = build.node("normal", "InstanceNormalization", [rows, *build.inputs[1:]], epsilon=self.eps)
        build.output(build.outputs[0], "Reshape", [normal, build.node("shape", "Shape", [build.inputs[0]])])
        if self.outputs_statistics:
            _, mean, deviation = self._emit_statistics(build, rows, (2,))
            for number, tensor in enumerate((mean, deviation), 1):
                build.output(build.outputs[number], "Squeeze", [tensor, build.integers(f"last{number}", (2,))])


@register
@dataclass(frozen=True)
class LRN(Operator):
    """Division by (knorm + alpha / nsize * the sum of squares of `nsize` neighbouring channels) to the power `beta`."""

    name = "LRN"
    restrictions = "NCHW only. `nsize` is odd."

    alpha: float
    beta: float
    bias: float
    size: int

    @classmethod
    def read(cls, attributes: Attributes) -> LRN:
        alpha, beta, bias = (
            float(np.float32(attributes.number(name, default, least=-MAX_FLOAT32)))
            for name, default in (("alpha", 1e-4), ("beta", 0.75), ("knorm", 2))
        )
        size = attributes.integer("nsize", least=1)
        if size % 2 == 0:
            attributes.problems.append(f"attribute nsize='{size}' is not supported: expected an odd number")
        return cls(alpha, beta, bias, size)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"LRN needs an NCHW input, not {inputs[0]}")
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 2 * self._near(inputs[0][1]) + 3

    def _near(self, channels: int) -> int:
        """Return the number of neighbours that there can be."""
        return min(self.size, 2 * channels - 1)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        channels = inputs[0].shape[1]
        near = self._near(channels)
        squares = np.pad(inputs[0] ** 2, ((0, 0), (near // 2, near // 2), (0, 0), (0, 0)))
        sums = sum(squares[:, first : first + channels] for first in range(near))
        return (inputs[0] / (self.bias + self.alpha / self.size * sums) ** self.beta,)

    def emit(self, build: NodeBuilder) -> None:
        near = self._near(build.input_shapes[0][1])
        alpha = self.alpha * near / self.size  # which ONNX divides by the number of neighbours
        if self.bias == 1 or self.bias <= 0:
            build.finish("LRN", build.inputs, alpha=alpha, beta=self.beta, bias=self.bias, size=near)
            return
        # OpenVINO 2026.4 computes wrong values where the bias is below 1. So the factor bias^-beta stands outside.
        scaled = {"alpha": alpha / self.bias, "beta": self.beta, "bias": 1.0, "size": near}
        ratio = build.node("ratio", "LRN", build.inputs, **scaled)
        build.finish("Mul", [ratio, build.floats("factor", self.bias**-self.beta)])


@register
@dataclass(frozen=True)
class L2Normalization(_Normalisation):
    """Division by the Euclidean norm over each instance, over the channels, or over each channel's positions.

    The norm is the root of the sum of squares plus `eps`.
    """

    name = "L2Normalization"
    restrictions = "With `channel` and `spatial`, the input has spatial axes."

    mode: str

    @classmethod
    def read(cls, attributes: Attributes) -> L2Normalization:
        eps = _read_eps(attributes, 1e-10)
        return cls(eps, attributes.choice("mode", ("instance", "channel", "spatial"), "instance"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.mode != "instance":
            need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 3

    def _axes(self, dimensions: int) -> Shape:
        """Return the axes over which the norm runs."""
        return {"channel": (1,), "instance": tuple(range(1, dimensions))}.get(self.mode, tuple(range(2, dimensions)))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        squares = np.square(inputs[0]).sum(self._axes(inputs[0].ndim), keepdims=True)
        return (inputs[0] / np.sqrt(squares + self.eps),)

    def emit(self, build: NodeBuilder) -> None:
        data, axes = build.inputs[0], self._axes(len(build.input_shapes[0]))
        squares = total = build.node("squares", "Mul", [data, data])
        if axes:
            total = build.node("total", "ReduceSum", [squares, build.integers("axes", axes)], keepdims=1)
        shifted = build.node(
            "shifted", "Add", [total, build.constant("eps", np.array(self.eps, build.input_dtypes[0]))]
        )
        build.finish("Div", [data, build.node("norm", "Sqrt", [shifted])])
