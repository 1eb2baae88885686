"""Operators that cut a window out of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attributes
from sshconvert.operators.axes import axes_in, axis_in, emit_sizes, read_axis, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class SliceAxis(Operator):
    """The part of one axis from `begin` to `end`, which count from the back if they are negative."""

    name = "slice_axis"
    value_preserving = ("Slice", "Reshape")

    axis: int
    begin: int
    end: int | None

    @classmethod
    def read(cls, attributes: Attributes) -> SliceAxis:
        return cls(
            axis=read_axis(attributes, "axis"),
            begin=attributes.integer("begin", least=-MAX_INTEGER),
            end=attributes.optional_integer("end", least=-MAX_INTEGER),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axis = axis_in(self.axis, inputs[0])
        begin, end = self._window(inputs[0][axis])
        need(
            0 <= begin < end <= inputs[0][axis], f"{self.begin} to {self.end} is no part of axis {axis} of {inputs[0]}"
        )
        return (replaced(inputs[0], axis, end - begin),)

    def _window(self, size: int) -> tuple[int, int]:
        begin, end = self.begin, size if self.end is None else self.end
        return begin + size * (begin < 0), end + size * (end < 0)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        axis = axis_in(self.axis, inputs[0].shape)
        return (inputs[0][(slice(None),) * axis + (slice(self.begin, self.end),)],)

    def emit(self, build: NodeBuilder) -> None:
        """Emit a Slice. MXNet refuses a window that reaches outside the input, but a Slice clips it.

        So if the size is free and the window's is not, a Reshape to the window's size fails.
        """
        axis = axis_in(self.axis, build.input_shapes[0])
        end = MAX_INTEGER if self.end is None else self.end
        limits = [
            build.integers(role, (value,)) for role, value in (("begin", self.begin), ("end", end), ("axis", axis))
        ]
        is_fixed = (self.begin < 0) == (self.end is None or self.end < 0)
        if not build.free_input()[axis] or not is_fixed:
            build.finish("Slice", [build.inputs[0], *limits])
            return
        window = build.node("window", "Slice", [build.inputs[0], *limits])
        build.finish("Reshape", [window, _expected(build, {axis: build.output_shapes[0][axis]})])


@register
@dataclass(frozen=True)
class Slice(Operator):
    """A window of the first axes: from `begin` to `end` in steps, as Python slices.

    A negative number counts from the back, None stands for the end that the step leaves, and a window that reaches
    outside the axis is clipped.
    """

    name = "slice"
    aliases = ("crop",)
    value_preserving = ("Slice", "Identity")
    restrictions = "The window is not empty."

    windows: tuple[slice, ...]

    @classmethod
    def read(cls, attributes: Attributes) -> Slice:
        begin, end, step = (attributes.optional_integers(name, least=-MAX_INTEGER) for name in ("begin", "end", "step"))
        step = step or (None,) * len(begin)
        if not len(begin) == len(end) == len(step):
            attributes.problems.append(f"attributes begin={begin}, end={end} and step={step} differ in length")
        if 0 in step:
            attributes.problems.append(f"attribute step={step} is not supported: expected no 0")
        return cls(tuple(map(slice, begin, end, step)))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, count = inputs[0], len(self.windows)
        need(count <= len(data), f"{data} has fewer than {count} dimensions")
        sizes = tuple(len(range(*window.indices(size))) for window, size in zip(self.windows, data, strict=False))
        need(all(sizes), f"the window {sizes} of {data} is empty")
        return ((*sizes, *data[count:]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0][self.windows],)

    def emit(self, build: NodeBuilder) -> None:
        axes = [axis for axis, window in enumerate(self.windows) if window != slice(None)]
        if not axes:
            build.finish("Identity", build.inputs)
            return
        steps = [window.step or 1 for window in self.windows]
        limits = {
            "begin": [_limit(self.windows[axis].start, steps[axis] < 0) for axis in axes],
            "end": [_limit(self.windows[axis].stop, steps[axis] > 0) for axis in axes],
            "axes": axes,
            "step": [steps[axis] for axis in axes],
        }
        inputs = [build.integers(role, values) for role, values in limits.items()]
        build.finish("Slice", [build.inputs[0], *inputs])


def _limit(value: int | None, is_last: bool) -> int:
    """Return a limit of a Slice, which clips it. None stands for the last index, or the one before the first."""
    return value if value is not None else MAX_INTEGER if is_last else -MAX_INTEGER


@register
@dataclass(frozen=True)
class SliceLike(Operator):
    """The first elements of the axes `axes`, or of all axes without it: as many as the second input has."""

    name = "slice_like"
    inputs = ("data", "shape_like")
    value_preserving = ("Slice", "Reshape")

    axes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> SliceLike:
        return cls(attributes.integers("axes", (), least=-MAX_DIMENSIONS))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, like = inputs
        sizes = list(data)
        for axis in self._axes(data, like):
            need(axis < len(like) and like[axis] <= data[axis], f"axis {axis} of {like} is not inside {data}")
            sizes[axis] = like[axis]
        return (tuple(sizes),)

    def _axes(self, data: Shape, like: Shape) -> Shape:
        need(bool(self.axes) or len(data) == len(like), f"{data} and {like} have different numbers of dimensions")
        return tuple(sorted({axis_in(axis, data) for axis in self.axes or range(len(data))}))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0][tuple(map(slice, self.output_shapes(*(array.shape for array in inputs))[0]))],)

    def emit(self, build: NodeBuilder) -> None:
        """Emit a Slice. MXNet refuses a size larger than the input's, but a Slice clips it.

        So if a size is free, a Reshape to the sizes fails.
        """
        axes = self._axes(*build.input_shapes)
        end = emit_sizes(build, "end", build.inputs[1], axes)
        window = [build.inputs[0], build.integers("begin", (0,) * len(axes)), end, build.integers("axes", axes)]
        if not any(build.free_input(0)[axis] or build.free_input(1)[axis] for axis in axes):
            build.finish("Slice", window)
            return
        like = build.node("like", "Shape", [build.inputs[1]])
        parts = [
            build.node(f"size{axis}", "Gather", [like, build.integers(f"at{axis}", (axis,))])
            if axis in axes
            else build.integers(f"size{axis}", (0,))
            for axis in range(len(build.input_shapes[0]))
        ]
        build.finish("Reshape", [build.node("window", "Slice", window), build.node("sizes", "Concat", parts, axis=0)])


def _expected(build: NodeBuilder, sizes: Mapping[int, int]) -> str:
    """Add the constant shape of a Reshape that keeps an input's shape, and fails if it has other `sizes` by axis."""
    return build.integers("expected", [sizes.get(axis, 0) for axis in range(len(build.output_shapes[0]))])


@register
@dataclass(frozen=True)
class Reverse(Operator):
    """The elements of some axes in reverse order."""

    name = "reverse"
    aliases = ("flip",)
    value_preserving = ("Slice", "Identity")

    axes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Reverse:
        return cls(attributes.integers("axis"))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        axes_in(self.axes, inputs[0])
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.flip(inputs[0], self.axes),)

    def emit(self, build: NodeBuilder) -> None:
        count = len(self.axes)
        limits = {"begin": (-1,) * count, "end": (-MAX_INTEGER,) * count, "axes": self.axes, "step": (-1,) * count}
        inputs = [build.integers(role, values) for role, values in limits.items()]
        build.finish("Slice", [build.inputs[0], *inputs])


@register
@dataclass(frozen=True)
class Crop(Operator):
    """A window of the first input, with the height and width of the second input, or `size` without one."""

    name = "Crop"
    inputs = ()
    value_preserving = ("Slice", "Reshape")
    restrictions = "NCHW only. The window lies inside the input, also at the sizes of each run."

    count: int
    offset: Shape
    size: Shape
    centre: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Crop:
        return cls(
            count=attributes.integer("num_args", least=1, most=2),
            offset=attributes.integers("offset", (0, 0), length=2),
            size=attributes.integers("h_w", (0, 0), length=2),
            centre=attributes.boolean("center_crop", default=False),
        )

    def input_count(self) -> int:
        return self.count

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(all(len(shape) == 4 for shape in inputs), f"Crop needs NCHW inputs, not {list(inputs)}")
        size = inputs[1][2:] if self.count == 2 else self.size
        need(min(size) > 0, f"a crop of {size} is empty")
        for begin, length, limit in zip(self._begin(inputs[0], size), size, inputs[0][2:], strict=True):
            need(begin >= 0 and begin + length <= limit, f"{size} at {self.offset} is not inside {inputs[0]}")
        return ((*inputs[0][:2], *size),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        height, width = inputs[1].shape[2:] if self.count == 2 else self.size
        top, left = self._begin(inputs[0].shape, (height, width))
        return (inputs[0][:, :, top : top + height, left : left + width],)

    def emit(self, build: NodeBuilder) -> None:
        """Emit nodes that compute the window from the shapes of each run.

        MXNet refuses a window that reaches outside the input, but a Slice clips it. A Reshape to the window's size
        then fails. A Split would fail too, but ONNX Runtime's symbolic shape inference wants its sizes as numbers.
        """
        axes = build.integers("axes", (2, 3))
        if self.count == 2:
            size = build.node("size", "Gather", [build.node("like", "Shape", [build.inputs[1]]), axes])
            expected = build.node("expected", "Concat", [build.integers("unchanged", (0, 0)), size], axis=0)
        else:
            size, expected = build.integers("size", self.size), _expected(build, dict(enumerate(self.size, start=2)))
        if self.centre:
            full = build.node("whole", "Gather", [build.node("shape", "Shape", [build.inputs[0]]), axes])
            margin = build.node("margin", "Sub", [full, size])
            begin = build.node("begin", "Div", [margin, build.integers("two", (2,))])
        else:
            begin = build.integers("begin", self.offset)
        end = build.node("end", "Add", [begin, size]) if self.centre or any(self.offset) else size
        # Without steps, OpenVINO computes them from the size of a computed `begin`.
        steps = [build.integers("steps", (1, 1))] if self.centre else []
        window = build.node("window", "Slice", [build.inputs[0], begin, end, axes, *steps])
        build.finish("Reshape", [window, expected])

    def _begin(self, data: Shape, size: Shape) -> Shape:
        if not self.centre:
            return self.offset
        return tuple((full - length) // 2 for full, length in zip(data[2:], size, strict=True))
