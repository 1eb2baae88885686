"""An operator from outside: MXNet's SliceChannel, which cuts a tensor into parts of equal size, its outputs."""

from __future__ import annotations

from dataclasses import dataclass

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.onnx.builder import NodeBuilder
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register


@register
@dataclass(frozen=True)
class SliceChannel(Operator):
    name = "SliceChannel"
    aliases = ("split",)

    count: int
    axis: int

    @classmethod
    def read(cls, attributes: Attributes) -> SliceChannel:
        attributes.never("squeeze_axis")
        return cls(attributes.integer("num_outputs", least=1), attributes.integer("axis", 1))

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{number}" for number in range(self.count))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(self.axis < len(inputs[0]), f"axis {self.axis} is not an axis of {inputs[0]}")
        part, rest = divmod(inputs[0][self.axis], self.count)
        need(rest == 0, f"{inputs[0]} cannot be cut into {self.count} parts")
        return ((*inputs[0][: self.axis], part, *inputs[0][self.axis + 1 :]),) * self.count

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Split", build.inputs, axis=self.axis)
