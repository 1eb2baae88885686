"""Operators that change the order of axes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.axes import axis_in, read_axis
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@dataclass(frozen=True)
class _Permutation(Operator):
    """Axes in another order."""

    value_preserving = ("Transpose",)

    @abstractmethod
    def order(self, data: Shape) -> Shape:
        """Return the axis of the input that each axis of the output is."""

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (tuple(inputs[0][axis] for axis in self.order(inputs[0])),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].transpose(self.order(inputs[0].shape)),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Transpose", build.inputs, perm=self.order(build.input_shapes[0]))


@register
@dataclass(frozen=True)
class Transpose(_Permutation):
    """Axes in the order `axes`, or in reverse order without it."""

    name = "transpose"

    axes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Transpose:
        return cls(attributes.integers("axes", ()))

    def order(self, data: Shape) -> Shape:
        axes = self.axes or tuple(reversed(range(len(data))))
        need(sorted(axes) == list(range(len(data))), f"axes {axes} are not the axes of {data}")
        return axes


@register
@dataclass(frozen=True)
class SwapAxis(_Permutation):
    """Two axes exchanged."""

    name = "SwapAxis"
    aliases = ("swapaxes",)

    first: int
    second: int

    @classmethod
    def read(cls, attributes: Attributes) -> SwapAxis:
        return cls(read_axis(attributes, "dim1", 0), read_axis(attributes, "dim2", 0))

    def order(self, data: Shape) -> Shape:
        axes = list(range(len(data)))
        first, second = axis_in(self.first, data), axis_in(self.second, data)
        axes[first], axes[second] = second, first
        return tuple(axes)
