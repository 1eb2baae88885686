"""Pooling into a given number of windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

_MOST_WINDOWS: Final = 1000  # along an axis, as in older versions of MXNet: they become a matrix


@register
@dataclass(frozen=True)
class AdaptiveAvgPooling2D(Operator):
    """The averages of `output_size` windows along each axis, which cover it evenly and overlap where they must.

    Window i of n begins at i * size / n, rounded down, and ends before (i + 1) * size / n, rounded up.
    """

    name = "_contrib_AdaptiveAvgPooling2D"
    aliases = ("AdaptiveAvgPooling2D",)
    restrictions = "NCHW only."

    size: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> AdaptiveAvgPooling2D:
        height, *width = attributes.integers("output_size", (1,), least=1, most=2)
        return cls((height, *(width or (height,))))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"adaptive pooling needs an NCHW input, not {inputs[0]}")
        need(max(self.size) <= _MOST_WINDOWS, f"{self.size} windows are more than {_MOST_WINDOWS}")
        return ((*inputs[0][:2], *self.size),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return math.prod(-(-size // windows) for size, windows in zip(inputs[0][2:], self.size, strict=True))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        rows, columns = (_averages(s, w) for s, w in zip(inputs[0].shape[2:], self.size, strict=True))
        return (rows @ inputs[0] @ columns.T,)

    def emit(self, build: NodeBuilder) -> None:
        data, sizes = build.inputs[0], build.input_shapes[0][2:]
        is_free = any(build.free_input()[2:])
        if self.size == (1, 1):
            build.finish("GlobalAveragePool", [data])
        elif not is_free and all(size % windows == 0 for size, windows in zip(sizes, self.size, strict=True)):
            kernel = [size // windows for size, windows in zip(sizes, self.size, strict=True)]
            build.finish("AveragePool", [data], kernel_shape=kernel, strides=kernel)
        else:
            shape = build.node("shape", "Shape", [data]) if is_free else ""
            rows = self._emit_matrix(build, shape, 2)
            lines = build.node("lines", "MatMul", [rows, data])
            columns = build.node("turned", "Transpose", [self._emit_matrix(build, shape, 3)], perm=(1, 0))
            build.finish("MatMul", [lines, columns])

    def _emit_matrix(self, build: NodeBuilder, shape: str, axis: int) -> str:
        """Emit `_averages` for an axis."""
        windows = self.size[axis - 2]
        if build.free_input()[axis]:
            return _emit_averages(build, shape, axis, windows)
        return build.floats(f"means{axis}", _averages(build.input_shapes[0][axis], windows))


def _emit_averages(build: NodeBuilder, shape: str, axis: int, windows: int) -> str:
    """Emit `_averages` for the size of an axis in each run, in float32, in which MXNet computes the windows too."""
    length = build.node(f"length{axis}", "Gather", [shape, build.integers(f"axis{axis}", axis)])
    bounds = [build.integers(f"{role}{axis}", number) for role, number in (("first", 0), ("step", 1))]
    range_ = build.node(f"range{axis}", "Range", [bounds[0], length, bounds[1]])
    places, size = build.cast(f"places{axis}", range_), build.cast(f"size{axis}", length)
    ends = []
    for role, shift, rounding in (("start", 0, "Floor"), ("end", 1, "Ceil")):
        numbers = build.floats(f"{role}s{axis}", np.arange(windows)[:, None] + shift)
        product = build.node(f"{role}_product{axis}", "Mul", [numbers, size])
        exact = build.node(f"{role}_exact{axis}", "Div", [product, build.floats(f"{role}_windows{axis}", windows)])
        ends.append(build.node(f"{role}{axis}_place", rounding, [exact]))
    after = build.node(f"after{axis}", "GreaterOrEqual", [places, ends[0]])
    before = build.node(f"before{axis}", "Less", [places, ends[1]])
    inside = build.cast(f"ones{axis}", build.node(f"inside{axis}", "And", [after, before]))
    return build.node(f"means{axis}", "Div", [inside, build.node(f"count{axis}", "Sub", [ends[1], ends[0]])])


def _averages(size: int, windows: int) -> Array:
    """Return the matrix [windows, size] that computes the average of each window."""
    number, position = np.arange(windows)[:, None], np.arange(size)
    is_inside = (number * size // windows <= position) & (position < -(-(number + 1) * size // windows))
    return np.asarray(is_inside / is_inside.sum(1, keepdims=True))
