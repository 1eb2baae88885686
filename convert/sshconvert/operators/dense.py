"""Dense layers: products of matrices with weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, Weights, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class FullyConnected(Operator):
    """Products with weights [hidden, features], and a bias [hidden].

    With `flatten`, all axes after the first are the features; otherwise the last axis alone.
    """

    name = "FullyConnected"
    inputs = ("data", "weight", "bias")
    weights = Weights("Gemm", ("MatMul",))
    value_preserving = ("Flatten", "Reshape")

    hidden: int
    bias: bool
    flatten: bool

    @classmethod
    def read(cls, attributes: Attributes) -> FullyConnected:
        return cls(
            hidden=attributes.integer("num_hidden", least=1),
            bias=not attributes.boolean("no_bias", default=False),
            flatten=attributes.boolean("flatten", default=True),
        )

    def input_count(self) -> int:
        return 3 if self.bias else 2

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        features = math.prod(data[1:]) if self.flatten else data[-1]
        return ((self.hidden, features), (self.hidden,))[: self.input_count() - 1]

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((inputs[0][0], self.hidden) if self.flatten else (*inputs[0][:-1], self.hidden),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * inputs[1][1] + self.bias

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, weight, *bias = inputs
        rows = data.reshape(len(data), -1) if self.flatten else data
        return (sum(bias, rows @ weight.T),)

    def emit(self, build: NodeBuilder) -> None:
        need(not any(build.free_input(1)), "needs a fixed size")
        data, *parameters = build.inputs
        if len(build.input_shapes[0]) == 2:
            build.finish("Gemm", build.inputs, transB=1)
        elif self.flatten:
            build.finish("Gemm", [build.node("rows", "Flatten", [data]), *parameters], transB=1)
        else:
            rows = build.node("rows", "Reshape", [data, build.integers("rows_shape", (-1, build.input_shapes[1][1]))])
            products = build.node("products", "Gemm", [rows, *parameters], transB=1)
            build.finish("Reshape", [products, self._shape(build)])

    def _shape(self, build: NodeBuilder) -> str:
        """Add the constant, or the nodes, that give the output's shape of each run."""
        free = build.free_output
        if sum(free) <= 1:
            sizes = zip(build.output_shapes[0], free, strict=True)
            return build.integers("shape", [-1 if is_free else size for size, is_free in sizes])
        before = build.node("before", "Shape", [build.inputs[0]])
        kept = build.node("kept", "Gather", [before, build.integers("kept_axes", range(len(free) - 1))])
        return build.node("shape", "Concat", [kept, build.integers("hidden", (self.hidden,))], axis=0)
