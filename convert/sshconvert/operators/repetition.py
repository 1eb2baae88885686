"""Operators that repeat the elements of a tensor."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, Attributes
from sshconvert.operators.axes import axes_in, axis_in, emit_sizes, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Tile(Operator):
    """The tensor `reps` times along each of the last axes. More numbers than axes add axes in front."""

    name = "tile"
    value_preserving = ("Tile", "Unsqueeze", "Identity")

    counts: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Tile:
        return cls(attributes.integers("reps", (), least=1))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        counts = self._all_counts(inputs[0])
        data = (1,) * (len(counts) - len(inputs[0])) + inputs[0]
        return (tuple(count * size for count, size in zip(counts, data, strict=True)),)

    def _all_counts(self, data: Shape) -> Shape:
        return (1,) * (len(data) - len(self.counts)) + self.counts

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.tile(inputs[0], self.counts),)

    def emit(self, build: NodeBuilder) -> None:
        counts, data = self._all_counts(build.input_shapes[0]), build.inputs[0]
        added = len(counts) - len(build.input_shapes[0])
        if added:
            data = build.node("expanded", "Unsqueeze", [data, build.integers("axes", range(added))])
        build.finish("Tile", [data, build.integers("counts", counts)])


@register
@dataclass(frozen=True)
class Repeat(Operator):
    """Each element `repeats` times along `axis`. Without an axis, the tensor is flattened first."""

    name = "repeat"
    value_preserving = ("Reshape", "Tile", "Unsqueeze")

    count: int
    axis: int | None

    @classmethod
    def read(cls, attributes: Attributes) -> Repeat:
        return cls(
            attributes.integer("repeats", least=1),
            attributes.optional_integer("axis", least=-MAX_DIMENSIONS),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.axis is None:
            return ((self.count * int(np.prod(inputs[0])),),)
        axis = axis_in(self.axis, inputs[0])
        return (replaced(inputs[0], axis, self.count * inputs[0][axis]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.repeat(inputs[0], self.count, self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        """Emit a Tile along the axis if its size is 1. Otherwise tile a new axis behind it, and join the two."""
        data, shape = build.inputs[0], build.input_shapes[0]
        axis = len(shape) - 1 if self.axis is None else axis_in(self.axis, shape)
        if self.axis is not None and shape[axis] == 1 and not build.free_input()[axis]:
            counts = replaced((1,) * len(shape), axis, self.count)
            build.finish("Tile", [data, build.integers("counts", counts)])
            return
        expanded = build.node("expanded", "Unsqueeze", [data, build.integers("axis", (axis + 1,))])
        counts = (*(1,) * (axis + 1), self.count, *(1,) * (len(shape) - axis - 1))
        tiled = build.node("tiled", "Tile", [expanded, build.integers("counts", counts)])
        if self.axis is None:
            joined = build.integers("shape", (-1,))
        elif not any(build.free_input()[axis + 1 :]):
            joined = build.integers("shape", (*(0,) * axis, -1, *shape[axis + 1 :]))
        else:  # the sizes behind the axis without arithmetic, after which a size need not grow with the input
            sizes = build.node("sizes", "Shape", [data])
            behind = build.node("behind", "Gather", [sizes, build.integers("places", range(axis + 1, len(shape)))])
            joined = build.node("shape", "Concat", [build.integers("before", (*(0,) * axis, -1)), behind], axis=0)
        build.finish("Reshape", [tiled, joined])


@dataclass(frozen=True)
class _Broadcasting(Operator):
    """Dimensions of 1 that get other sizes."""

    value_preserving = ("Expand",)

    @abstractmethod
    def sizes(self, *inputs: Shape) -> Shape:
        """Return the size that each dimension gets, 1 for those that stay. Raises ShapeError."""

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, sizes = inputs[0], self.sizes(*inputs)
        fits = all(1 in (old, new) or old == new for old, new in zip(data, sizes, strict=True))
        need(fits, f"{data} cannot be broadcast to {sizes}")
        return (tuple(map(max, data, sizes)),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        shape = self.output_shapes(*(array.shape for array in inputs))[0]
        return (np.broadcast_to(inputs[0], shape),)

    def emit(self, build: NodeBuilder) -> None:
        sizes = build.integers("sizes", self.sizes(*build.input_shapes))
        build.finish("Expand", [build.inputs[0], sizes])


@register
@dataclass(frozen=True)
class BroadcastAxis(_Broadcasting):
    """The axes `axis`, of size 1, with the sizes `size`."""

    name = "broadcast_axis"
    aliases = ("broadcast_axes",)

    axes: Shape
    new: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> BroadcastAxis:
        axes, new = attributes.integers("axis", ()), attributes.integers("size", (), least=1)
        if len(axes) != len(new):
            attributes.problems.append(f"attributes axis={axes} and size={new} differ in length")
        return cls(axes, new)

    def sizes(self, *inputs: Shape) -> Shape:
        sizes = [1] * len(inputs[0])
        for axis, size in zip(axes_in(self.axes, inputs[0]), self.new, strict=True):
            need(inputs[0][axis] == 1, f"axis {axis} of {inputs[0]} is not 1")
            sizes[axis] = size
        return tuple(sizes)


@register
@dataclass(frozen=True)
class BroadcastTo(_Broadcasting):
    """The tensor with another shape, in which 0 keeps a dimension."""

    name = "broadcast_to"

    shape: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> BroadcastTo:
        return cls(attributes.integers("shape"))

    def sizes(self, *inputs: Shape) -> Shape:
        need(len(self.shape) == len(inputs[0]), f"{inputs[0]} cannot be broadcast to {self.shape}")
        need(
            all(new in (0, old) or old == 1 for old, new in zip(inputs[0], self.shape, strict=True)),
            f"{inputs[0]} cannot be broadcast to {self.shape}",
        )
        return tuple(size or 1 for size in self.shape)


@register
@dataclass(frozen=True)
class BroadcastLike(_Broadcasting):
    """The first input with the sizes of the second, or with those of some of its axes."""

    name = "broadcast_like"
    inputs = ("lhs", "rhs")

    axes: Shape
    like: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> BroadcastLike:
        axes, like = (attributes.integers(f"{side}_axes", (), least=-MAX_DIMENSIONS) for side in ("lhs", "rhs"))
        if not axes or not like:  # MXNet reads them as a pair
            return cls((), ())
        if len(axes) != len(like):
            attributes.problems.append(f"attributes lhs_axes={axes} and rhs_axes={like} differ in length")
        return cls(axes, like)

    def _pairs(self, *inputs: Shape) -> dict[int, int]:
        """Return the axis of the second input that gives the size of each axis of the first."""
        data, like = inputs
        if not self.axes:
            need(len(data) == len(like), f"{data} cannot be broadcast to {like}")
            return {axis: axis for axis in range(len(data))}
        return dict(zip(axes_in(self.axes, data), (axis_in(axis, like) for axis in self.like), strict=True))

    def sizes(self, *inputs: Shape) -> Shape:
        data, like = inputs
        pairs = self._pairs(data, like)
        for axis, other in pairs.items():
            fits = data[axis] == 1 or (data[axis] == like[other] and not self.axes)
            need(fits, f"axis {axis} of {data} cannot be broadcast to axis {other} of {like}")
        return tuple(like[pairs[axis]] if axis in pairs else 1 for axis in range(len(data)))

    def emit(self, build: NodeBuilder) -> None:
        pairs = self._pairs(*build.input_shapes)
        if not self.axes:
            sizes = build.sizes("sizes", 1)
        elif not any(build.free_output):
            sizes = build.integers("sizes", build.output_shapes[0])
        else:
            one = build.integers("one", (1,))
            parts = [
                emit_sizes(build, "size", build.inputs[1], (pairs[axis],)) if axis in pairs else one
                for axis in range(len(build.input_shapes[0]))
            ]
            sizes = build.node("sizes", "Concat", parts, axis=0)
        build.finish("Expand", [build.inputs[0], sizes])
