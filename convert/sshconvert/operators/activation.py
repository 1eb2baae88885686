"""Activation functions."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Activation(Operator):
    """An elementwise activation function without parameters."""

    name = "Activation"
    value_preserving = ("Relu",)

    function: str

    ONNX = MappingProxyType(
        {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    )

    @classmethod
    def read(cls, attributes: Attributes) -> Activation:
        return cls(attributes.choice("act_type", tuple(cls.ONNX)))

    def flops(self, *inputs: Shape) -> float:
        return 2

    def emit(self, build: NodeBuilder) -> None:
        build.finish(self.ONNX[self.function], build.inputs)


@register
@dataclass(frozen=True)
class SoftmaxActivation(Operator):
    """Softmax over the channels. MXNet's default mode, softmax over each instance, is unsupported."""

    name = "SoftmaxActivation"
    restrictions = "The input has spatial axes."

    @classmethod
    def read(cls, attributes: Attributes) -> SoftmaxActivation:
        attributes.choice("mode", ("channel",), "instance")
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 5

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Softmax", build.inputs, axis=1)
