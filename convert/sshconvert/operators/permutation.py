"""Operators that change the order of axes, whole or in blocks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.axes import axis_in, read_axis
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

_LARGEST_BLOCK: Final = 1 << 15


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


@dataclass(frozen=True)
class _Blocks(Operator):
    """Blocks of `block` x `block` pixels that become channels, or the reverse. NCHW only."""

    restrictions = "NCHW only."

    block: int

    @classmethod
    def read(cls, attributes: Attributes) -> Self:
        return cls(attributes.integer("block_size", least=1, most=_LARGEST_BLOCK))


@register
@dataclass(frozen=True)
class DepthToSpace(_Blocks):
    """Channels [block, block, channels] that become the pixels of blocks."""

    name = "depth_to_space"
    value_preserving = ("DepthToSpace",)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"depth_to_space needs 4 dimensions, not {inputs[0]}")
        number, depth, height, width = inputs[0]
        channels, rest = divmod(depth, self.block**2)
        need(rest == 0, f"{depth} channels do not divide into blocks of {self.block} x {self.block}")
        return ((number, channels, height * self.block, width * self.block),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        number, depth, height, width = inputs[0].shape
        parts = inputs[0].reshape(number, self.block, self.block, depth // self.block**2, height, width)
        return (parts.transpose(0, 3, 4, 1, 5, 2).reshape(self.output_shapes(inputs[0].shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("DepthToSpace", build.inputs, blocksize=self.block, mode="DCR")


@register
@dataclass(frozen=True)
class SpaceToDepth(_Blocks):
    """The pixels of blocks that become channels [block, block, channels]."""

    name = "space_to_depth"
    value_preserving = ("SpaceToDepth",)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"space_to_depth needs 4 dimensions, not {inputs[0]}")
        number, channels, *size = inputs[0]
        need(
            all(length % self.block == 0 for length in size),
            f"{size} does not divide into blocks of {self.block} x {self.block}",
        )
        return ((number, channels * self.block**2, *(length // self.block for length in size)),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        number, channels, height, width = inputs[0].shape
        shape = (number, channels, height // self.block, self.block, width // self.block, self.block)
        parts = inputs[0].reshape(shape).transpose(0, 3, 5, 1, 2, 4)
        return (parts.reshape(self.output_shapes(inputs[0].shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("SpaceToDepth", build.inputs, blocksize=self.block)
