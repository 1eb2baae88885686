"""Normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class BatchNorm(Operator):
    """Batch normalisation with stored statistics.

    MXNet's defaults differ from other frameworks: eps is 1e-3, and `fix_gamma` replaces gamma by 1.
    """

    name = "BatchNorm"
    inputs = ("data", "gamma", "beta", "moving_mean", "moving_var")
    auxiliaries = 2

    eps: float
    fix_gamma: bool

    @classmethod
    def read(cls, attributes: Attributes) -> BatchNorm:
        attributes.without_effect("momentum", "use_global_stats", "cudnn_off")
        attributes.integer("axis", 1, least=1, most=1)
        attributes.never("output_mean_var")
        return cls(attributes.number("eps", 1e-3), attributes.boolean("fix_gamma", default=True))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) >= 2, f"{data} has no channels")
        return ((data[1],),) * 4

    def flops(self, *inputs: Shape) -> float:
        return 2

    def emit(self, build: NodeBuilder) -> None:
        data, gamma, *others = build.inputs
        if self.fix_gamma:
            gamma = build.constant("gamma", np.broadcast_to(np.float32(1), build.input_shapes[1]))
        build.finish("BatchNormalization", [data, gamma, *others], epsilon=self.eps)


@register
@dataclass(frozen=True)
class L2Normalization(Operator):
    """Division by the Euclidean norm over each instance, over the channels, or over each channel's positions.

    The norm is the root of the sum of squares plus `eps`.
    """

    name = "L2Normalization"
    restrictions = "With `channel` and `spatial`, the input has spatial axes."

    eps: float
    mode: str

    @classmethod
    def read(cls, attributes: Attributes) -> L2Normalization:
        eps = float(np.float32(attributes.number("eps", 1e-10)))
        return cls(eps, attributes.choice("mode", ("instance", "channel", "spatial"), "instance"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.mode != "instance":
            need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
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
        dtype = build.input_dtypes[0]
        squares = total = build.node("squares", "Mul", [data, data])
        if axes:
            total = build.node("total", "ReduceSum", [squares, build.integers("axes", axes)], keepdims=1)
        shifted = build.node("shifted", "Add", [total, build.constant("eps", np.array(self.eps, dtype))])
        build.finish("Div", [data, build.node("norm", "Sqrt", [shifted])])
