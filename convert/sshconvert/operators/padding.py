"""Padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Pad(Operator):
    """More elements before and behind each spatial axis: a constant, or the tensor's own at its edge or mirrored.

    `pad_width` is (before, behind) for each axis in turn.
    """

    name = "Pad"
    aliases = ("pad",)
    restrictions = "4-D or 5-D. The first two axes are not padded."

    mode: str
    widths: Shape
    value: float

    @classmethod
    def read(cls, attributes: Attributes) -> Pad:
        return cls(
            mode=attributes.choice("mode", ("constant", "edge", "reflect")),
            widths=attributes.integers("pad_width"),
            value=float(np.float32(attributes.number("constant_value", 0, least=-MAX_FLOAT32))),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, before, behind = inputs[0], self.widths[::2], self.widths[1::2]
        need(len(data) in (4, 5), f"Pad needs 4 or 5 dimensions, not {data}")
        need(len(self.widths) == 2 * len(data), f"pad_width {self.widths} is not a pair for each axis of {data}")
        need(not any(self.widths[:4]), f"pad_width {self.widths} pads one of the first two axes")
        largest = map(max, before, behind)
        fits = self.mode != "reflect" or all(width < size for width, size in zip(largest, data, strict=True))
        need(fits, f"{data} is too small to be reflected by {self.widths}")
        return (tuple(first + size + last for first, size, last in zip(before, data, behind, strict=True)),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        widths = list(zip(self.widths[::2], self.widths[1::2], strict=True))
        if self.mode == "constant":
            value = np.array(self.value).astype(inputs[0].dtype)
            return (np.pad(inputs[0], widths, constant_values=value),)
        return (np.pad(inputs[0], widths, mode="edge" if self.mode == "edge" else "reflect"),)

    def emit(self, build: NodeBuilder) -> None:
        inputs = [build.inputs[0], build.integers("widths", (*self.widths[::2], *self.widths[1::2]))]
        if self.mode == "constant":
            inputs.append(build.constant("value", np.array(self.value).astype(build.input_dtypes[0])))
        build.finish("Pad", inputs, mode=self.mode)
