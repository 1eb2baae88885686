"""Operators that change the resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class UpSampling(Operator):
    """Nearest-neighbour upsampling of one input by an integer factor."""

    name = "UpSampling"
    restrictions = "NCHW only."

    scale: int

    @classmethod
    def read(cls, attributes: Attributes) -> UpSampling:
        attributes.without_effect("workspace", "num_filter", "multi_input_mode")
        attributes.choice("sample_type", ("nearest",))
        attributes.integer("num_args", 1, least=1, most=1)
        return cls(attributes.integer("scale", least=1))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"UpSampling needs an NCHW input, not {inputs[0]}")
        return ((*inputs[0][:2], *(size * self.scale for size in inputs[0][2:])),)

    def emit(self, build: NodeBuilder) -> None:
        scales = build.constant("scales", np.array([1, 1, self.scale, self.scale], np.float32))
        build.finish(
            "Resize",
            [build.inputs[0], "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
