"""Transforms of images that Gluon exports as a part of the network."""

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
class ToTensor(Operator):
    """Pixels from 0 to 255, channels last, as numbers from 0 to 1, channels first: float32."""

    name = "_image_to_tensor"
    aliases = ("_npx__image_to_tensor",)

    @classmethod
    def read(cls, attributes: Attributes) -> ToTensor:
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        *batch, height, width, channels = _need_image(inputs[0])
        return ((*batch, channels, height, width),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (np.dtype(np.float32),)

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.moveaxis(inputs[0], -1, -3) / 255,)

    def emit(self, build: NodeBuilder) -> None:
        data, dimensions = build.inputs[0], len(build.input_shapes[0])
        if build.input_dtypes[0] != np.float32:
            data = build.cast("pixels", data)
        order = [*range(dimensions - 3), dimensions - 1, dimensions - 3, dimensions - 2]
        first = build.node("first", "Transpose", [data], perm=order)
        build.finish("Div", [first, build.floats("white", 255)])


@register
@dataclass(frozen=True)
class Normalize(Operator):
    """Subtraction of a mean and division by a deviation, each one number or one for each channel; channels first."""

    name = "_image_normalize"
    aliases = ("_npx__image_normalize",)

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def read(cls, attributes: Attributes) -> Normalize:
        mean, deviation = attributes.numbers("mean", (0.0,) * 4), attributes.numbers("std", (1.0,) * 4)
        if 0 in deviation:
            attributes.problems.append("attribute std has a 0")
        return cls(*(tuple(float(np.float32(value)) for value in values) for values in (mean, deviation)))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        channels = _need_image(inputs[0])[-3]
        fits = all(len(values) in (1, channels) for values in (self.mean, self.deviation))
        need(fits, f"mean {self.mean} and std {self.deviation} do not fit {channels} channels")
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        mean, deviation = (np.array(values)[:, None, None] for values in (self.mean, self.deviation))
        return ((inputs[0] - mean) / deviation,)

    def emit(self, build: NodeBuilder) -> None:
        mean, deviation = (np.array(values)[:, None, None] for values in (self.mean, self.deviation))
        centred = build.node("centred", "Sub", [build.inputs[0], build.floats("mean", mean)])
        build.finish("Div", [centred, build.floats("std", deviation)])


def _need_image(shape: Shape) -> Shape:
    need(len(shape) in (3, 4), f"{shape} is no image, and no batch of images")
    return shape
