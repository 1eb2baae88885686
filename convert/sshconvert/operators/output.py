"""Loss heads, which compute a prediction at inference and ignore their label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register, register_kind
from sshconvert.operators.unary import sigmoid

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


class _Head(Operator):
    inputs = ("data", "label")
    ignored = ("label",)


@register
@dataclass(frozen=True)
class SoftmaxOutput(_Head):
    """Softmax over the axis 1 (`multi_output`), over the last axis (`preserve_shape`), or over all axes but the first.

    The shape stays. If both attributes are true, `multi_output` decides.
    """

    # The CPU build of MXNet 1.9.1 with oneDNN gives ones for [N, C, 1, 1], for example.
    restrictions = "Without attributes, 4-D inputs follow MXNet's definition; its oneDNN build takes the last axis."
    name = "SoftmaxOutput"
    aliases = ("Softmax",)

    axis: int | None  # None: all axes but the first

    @classmethod
    def read(cls, attributes: Attributes) -> SoftmaxOutput:
        multi_output = attributes.boolean("multi_output", default=False)
        preserve_shape = attributes.boolean("preserve_shape", default=False)
        attributes.without_effect("grad_scale", "ignore_label", "use_ignore", "normalization", "out_grad")
        attributes.without_effect("smooth_alpha")
        return cls(1 if multi_output else -1 if preserve_shape else None)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) > 1, f"{inputs[0]} has no axis of classes")
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 3  # exponential, sum, quotient

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0]
        axes = tuple(range(1, data.ndim)) if self.axis is None else self.axis
        exponentials = np.exp(data - data.max(axes, keepdims=True))
        return (exponentials / exponentials.sum(axes, keepdims=True),)

    def emit(self, build: NodeBuilder) -> None:
        data, shape = build.inputs[0], build.input_shapes[0]
        if self.axis is not None or math.prod(shape[2:]) == 1 == math.prod(build.larger_input_shapes[0][2:]):
            build.finish("Softmax", [data], axis=1 if self.axis is None else self.axis % len(shape))
            return
        flat = build.node("flat", "Reshape", [data, build.integers("flat_shape", (0, -1))])
        softmax = build.node("softmax", "Softmax", [flat], axis=1)
        build.finish("Reshape", [softmax, build.node("shape", "Shape", [data])])


@dataclass(frozen=True)
class _Regression(_Head):
    """The data itself. The loss serves training."""

    @classmethod
    def read(cls, attributes: Attributes) -> Operator:
        attributes.without_effect("grad_scale", "out_grad")  # MXNet takes the second from SoftmaxOutput and ignores it
        return cls()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0],)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Identity", build.inputs[:1])


register_kind(_Regression, "LinearRegressionOutput")
register_kind(_Regression, "MAERegressionOutput")


@register
@dataclass(frozen=True)
class LogisticRegressionOutput(_Regression):
    """1 / (1 + exp(-data))."""

    name = "LogisticRegressionOutput"

    def flops(self, *inputs: Shape) -> float:
        return 3

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (sigmoid(inputs[0]),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Sigmoid", build.inputs[:1])


@register
@dataclass(frozen=True)
class SVMOutput(_Regression):
    """The data itself."""

    name = "SVMOutput"

    @classmethod
    def read(cls, attributes: Attributes) -> SVMOutput:
        attributes.without_effect("margin", "regularization_coefficient", "use_linear")
        return cls()
