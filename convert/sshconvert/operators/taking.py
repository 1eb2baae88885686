"""Operators that choose by one index: along an axis, or of a number of classes.

An index is cut to a whole number. In the mode `clip`, one outside the axis becomes the nearest inside. In the mode
`wrap`, it becomes the remainder of its division by the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_FLOAT32, Attributes
from sshconvert.operators.axes import axis_in, emit_sizes, read_axis, replaced
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

CLIP, WRAP, RAISE = "clip", "wrap", "raise"
LARGEST_DEPTH: Final = 1 << 24


def whole_indices(indices: Array, size: int, mode: str) -> Array:
    """Return indices as integers inside an axis of a size. Raises ShapeError for others in the mode `raise`."""
    whole = np.trunc(indices).astype(np.int64)
    need(mode != RAISE or bool(((whole >= 0) & (whole < size)).all()), f"an index is outside an axis of {size}")
    return whole % size if mode == WRAP else whole.clip(0, size - 1)


def emit_indices(build: NodeBuilder, mode: str, axis: int) -> str:
    """Add nodes that make indices, the second input, integers inside an axis of the first."""
    whole = build.cast("whole", build.inputs[1], np.int64)
    if mode == RAISE:
        return whole
    one = build.integers("one", (1,))
    if build.free_input()[axis]:
        size = emit_sizes(build, "size", build.inputs[0], (axis,))
        last = build.node("last", "Sub", [size, one])
    else:
        length = build.input_shapes[0][axis]
        size, last = build.integers("size", (length,)), build.integers("last", (length - 1,))
    if mode == WRAP:
        return build.node("wrapped", "Mod", [whole, size])
    positive = build.node("positive", "Max", [whole, build.integers("zero", (0,))])
    return build.node("inside", "Min", [positive, last])


@register
@dataclass(frozen=True)
class Take(Operator):
    """Slices along an axis, at the indices of the second input, whose axes replace that axis."""

    name = "take"
    inputs = ("a", "indices")
    value_preserving = ("Gather",)
    restrictions = "In the mode `raise`, all indices are inside: the runtimes do not check them alike."

    axis: int
    mode: str

    @classmethod
    def read(cls, attributes: Attributes) -> Take:
        return cls(read_axis(attributes, "axis", 0), attributes.choice("mode", (CLIP, WRAP, RAISE), CLIP))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (replaced(inputs[0], axis_in(self.axis, inputs[0]), *inputs[1]),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        size = inputs[0].shape[self.axis]
        return (np.take(inputs[0], whole_indices(inputs[1], size, self.mode), self.axis),)

    def emit(self, build: NodeBuilder) -> None:
        axis = axis_in(self.axis, build.input_shapes[0])
        build.finish("Gather", [build.inputs[0], emit_indices(build, self.mode, axis)], axis=axis)


@register
@dataclass(frozen=True)
class Pick(Operator):
    """One element of each row along an axis, at the index that the second input has for the row."""

    name = "pick"
    aliases: ClassVar[tuple[str, ...]] = ("choose_element_0index",)
    inputs = ("data", "index")
    value_preserving = ("GatherElements", "Squeeze", "Unsqueeze")

    axis: int
    keepdims: bool
    mode: str

    @classmethod
    def read(cls, attributes: Attributes) -> Pick:
        axis = attributes.optional_integer("axis", default=-1, least=-MAX_DIMENSIONS)
        if axis is None:
            attributes.problems.append("attribute axis='None' is not supported: expected an axis")
        return cls(
            axis=axis or 0,
            keepdims=attributes.boolean("keepdims", default=False),
            mode=attributes.choice("mode", (CLIP, WRAP), CLIP),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, index = inputs
        axis = axis_in(self.axis, data)
        kept, rows = replaced(data, axis, 1), replaced(data, axis)
        need(index in (kept, rows), f"indices of {index} are not one for each row along axis {axis} of {data}")
        return (kept if self.keepdims else rows or (1,),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, shape = inputs[0], inputs[0].shape
        index = whole_indices(inputs[1], shape[self.axis], self.mode)
        picked = np.take_along_axis(data, index.reshape(replaced(shape, axis_in(self.axis, shape), 1)), self.axis)
        return (picked.reshape(self.output_shapes(shape, inputs[1].shape)[0]),)

    def emit(self, build: NodeBuilder) -> None:
        axis = axis_in(self.axis, build.input_shapes[0])
        where = build.integers("axis", (axis,))
        index = emit_indices(build, self.mode, axis)
        if len(build.input_shapes[1]) < len(build.input_shapes[0]):
            index = build.node("rows", "Unsqueeze", [index, where])
        if len(build.output_shapes[0]) == len(build.input_shapes[0]):
            build.finish("GatherElements", [build.inputs[0], index], axis=axis)
            return
        picked = build.node("picked", "GatherElements", [build.inputs[0], index], axis=axis)
        build.finish("Squeeze", [picked, where])


@register
@dataclass(frozen=True)
class BatchTake(Pick):
    """One element of each row of a matrix, at the index that the second input has for the row."""

    name = "batch_take"
    aliases = ()
    inputs = ("a", "indices")

    @classmethod
    def read(cls, attributes: Attributes) -> BatchTake:
        return cls(axis=1, keepdims=False, mode=CLIP)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 2 and len(inputs[1]) == 1, f"batch_take needs a matrix and a vector, not {inputs}")
        return super().output_shapes(*inputs)


@register
@dataclass(frozen=True)
class OneHot(Operator):
    """A vector of `depth` numbers for each index: `on` at the index, `off` elsewhere.

    An index outside the vector gives `off` everywhere.
    """

    name = "one_hot"
    inputs = ("indices",)

    depth: int
    on: float
    off: float
    dtype: DType

    @classmethod
    def read(cls, attributes: Attributes) -> OneHot:
        return cls(
            depth=attributes.integer("depth", least=1, most=LARGEST_DEPTH),
            on=attributes.number("on_value", 1, least=-MAX_FLOAT32),
            off=attributes.number("off_value", 0, least=-MAX_FLOAT32),
            dtype=np.dtype(
                attributes.choice(
                    "dtype", ("float32", "float64", "float16", "int32", "int64", "int8", "uint8"), "float32"
                )
            ),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[0], self.depth),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (self.dtype,)

    def _values(self) -> tuple[Array, Array]:
        on, off = (np.array([value]).astype(self.dtype) for value in (self.on, self.off))
        return on, off

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        kind = np.float64 if self.dtype.kind == "f" else np.int64
        on, off = (value.astype(kind) for value in self._values())
        return (np.where(np.trunc(inputs[0])[..., np.newaxis] == np.arange(self.depth), on, off),)

    def emit(self, build: NodeBuilder) -> None:
        whole = build.cast("whole", build.inputs[0], np.int64)
        rows = build.node("rows", "Unsqueeze", [whole, build.integers("axis", (len(build.input_shapes[0]),))])
        chosen = build.node("chosen", "Equal", [rows, build.integers("classes", range(self.depth))])
        values = self._values()
        is_native = self.dtype in (np.float32, np.int32, np.int64)
        if not is_native:  # ONNX Runtime chooses between fewer types than it converts
            values = (values[0].astype(np.float32), values[1].astype(np.float32))
        inputs = [chosen, build.constant("on", values[0]), build.constant("off", values[1])]
        if is_native:
            build.finish("Where", inputs)
        else:
            build.finish_cast(build.node("hot", "Where", inputs))
