"""Operators that cut a window out of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.axes import axis_in, read_axis, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class SliceAxis(Operator):
    """The part of one axis from `begin` to `end`, which count from the back if they are negative."""

    name = "slice_axis"
    value_preserving = ("Slice", "Split")

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

        So if the size is free and the window's is not, a Split into one part of the window's size fails.
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
        build.finish("Split", [window, build.integers("size", (build.output_shapes[0][axis],))], axis=axis)


@register
@dataclass(frozen=True)
class Crop(Operator):
    """A window of the first input, with the height and width of the second input, or `size` without one."""

    name = "Crop"
    inputs = ()
    value_preserving = ("Slice", "Split")
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

        MXNet refuses a window that reaches outside the input, but a Slice clips it. A Split into one part of the
        window's size then fails.
        """
        if self.count == 2:
            like = build.node("like", "Shape", [build.inputs[1]])
            sizes = [
                build.node(role, "Gather", [like, build.integers(f"{role}_axis", (axis,))])
                for role, axis in (("height", 2), ("width", 3))
            ]
        else:
            sizes = [build.integers(role, (size,)) for role, size in zip(("height", "width"), self.size, strict=True)]
        size, axes = build.node("size", "Concat", sizes, axis=0), build.integers("axes", (2, 3))
        if self.centre:
            full = build.node("whole", "Gather", [build.node("shape", "Shape", [build.inputs[0]]), axes])
            margin = build.node("margin", "Sub", [full, size])
            begin = build.node("begin", "Div", [margin, build.integers("two", (2,))])
        else:
            begin = build.integers("begin", self.offset)
        end = build.node("end", "Add", [begin, size]) if self.centre or any(self.offset) else size
        window = build.node("window", "Slice", [build.inputs[0], begin, end, axes])
        build.finish("Split", [build.node("rows", "Split", [window, sizes[0]], axis=2), sizes[1]], axis=3)

    def _begin(self, data: Shape, size: Shape) -> Shape:
        if not self.centre:
            return self.offset
        return tuple((full - length) // 2 for full, length in zip(data[2:], size, strict=True))
