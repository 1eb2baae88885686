"""An operator from outside: MXNet's `_npi_hsplit`, which cuts the channels into parts of equal size, its outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.onnx.builder import NodeBuilder
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register


@register
@dataclass(frozen=True)
class HSplit(Operator):
    name = "_npi_hsplit"

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> HSplit:
        attributes.choice("indices", ("()",), "()")
        return cls(attributes.integer("sections", least=1))

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{number}" for number in range(self.count))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        part, rest = divmod(inputs[0][1], self.count)
        need(rest == 0, f"{inputs[0]} cannot be cut into {self.count} parts")
        return ((inputs[0][0], part, *inputs[0][2:]),) * self.count

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return tuple(np.split(inputs[0], self.count, axis=1))

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Split", build.inputs, axis=1)
