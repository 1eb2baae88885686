"""Elementwise arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class ElementwiseAdd(Operator):
    """Sum of two tensors of the same shape, without broadcasting."""

    name = "elemwise_add"
    aliases = ("_Plus", "_plus", "_add")
    inputs = ("lhs", "rhs")
    restrictions = "Both inputs have the same shape."

    @classmethod
    def read(cls, attributes: Attributes) -> ElementwiseAdd:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(inputs[0] == inputs[1], f"shapes {inputs[0]} and {inputs[1]} differ")
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0] + inputs[1],)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Add", build.inputs)
