"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register
from sshconvert.operators.windows import need_axes, read_by_axis, read_kernel, window_counts

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Pooling(Operator):
    """Maximum or average over windows. `valid` rounds the number of windows down, `full` rounds it up."""

    name = "Pooling"
    value_preserving = ("MaxPool",)
    restrictions = (
        "No window lies entirely in the padding. With `full`, the last window of an average stays within the padding. "
        "`full` with padding, or with strides larger than the kernel, needs a fixed size."
    )

    kernel: Shape
    stride: Shape
    pad: Shape
    function: str
    convention: str
    is_global: bool
    count_padding: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Pooling:
        is_global = attributes.boolean("global_pool", default=False)
        kernel = read_kernel(attributes, () if is_global else None)
        return cls(
            kernel=kernel,
            stride=read_by_axis(attributes, "stride", kernel, 1, least=1),
            pad=read_by_axis(attributes, "pad", kernel, 0),
            function=attributes.choice("pool_type", ("max", "avg"), "max"),
            convention=attributes.choice("pooling_convention", ("valid", "full"), "valid"),
            is_global=is_global,
            count_padding=attributes.boolean("count_include_pad", default=True),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        batch, channels, *sizes = inputs[0]
        if self.is_global:
            return ((batch, channels, *(1 for _ in sizes)),)
        need_axes(self.kernel, inputs[0])
        counts = window_counts(sizes, self.kernel, self.stride, self.pad, up=self.convention == "full")
        return ((batch, channels, *counts),)

    def flops(self, *inputs: Shape) -> float:
        return math.prod(inputs[0][2:] if self.is_global else self.kernel)

    def emit(self, build: NodeBuilder) -> None:
        name = "MaxPool" if self.function == "max" else "AveragePool"
        if self.is_global:
            build.finish(f"Global{name}", build.inputs)
            return
        count = {} if self.function == "max" else {"count_include_pad": int(self.count_padding)}
        if self.convention == "valid" or set(self.stride) == {1}:
            self._need_data_everywhere(self.pad)
            build.finish(name, build.inputs, **self._windows_of(self.pad), **count)
        elif not any(self.pad) and all(k >= s for k, s in zip(self.kernel, self.stride, strict=True)):
            # Without padding and gaps, `ceil_mode` means the same in MXNet and all runtimes: averages ignore padding.
            count = dict.fromkeys(count, 0)
            build.finish(name, build.inputs, **self._windows_of(self.pad), ceil_mode=1, **count)
        else:
            self._round_up(build, name, count)

    def _round_up(self, build: NodeBuilder, name: str, count: Mapping[str, int]) -> None:
        """Emit a pooling whose last window crosses the edge, with explicit padding.

        Runtimes interpret `ceil_mode` differently here. The padding is right for one input size, so the nodes refuse
        all others.
        """
        need(not any(build.free_output[2:]), "pooling that rounds up, with padding or gaps, needs a fixed size")
        after = self._padding_after(build.input_shapes[0], build.output_shapes[0])
        self._need_data_everywhere(after)
        need(not count or after == self.pad, "average pooling whose last window crosses the padding is not supported")
        build.finish(name, [self._only_of_size(build)], **self._windows_of(after), **count)

    @staticmethod
    def _only_of_size(build: NodeBuilder) -> str:
        """Emit nodes that return the input, and fail if its spatial axes have other sizes."""
        tensor = build.inputs[0]
        for axis, size in enumerate(build.input_shapes[0][2:], 2):
            tensor = build.node(f"size{axis}", "Split", [tensor, build.integers(f"only{axis}", (size,))], axis=axis)
        return tensor

    def _windows_of(self, after: Shape) -> dict[str, Any]:
        return {"kernel_shape": self.kernel, "strides": self.stride, "pads": self.pad + after}

    def _need_data_everywhere(self, after: Shape) -> None:
        inside = all(pad < kernel for pad, kernel in zip(self.pad + after, self.kernel * 2, strict=True))
        need(inside, "windows entirely in the padding are not supported")

    def _padding_after(self, data: Shape, output: Shape) -> Shape:
        overhangs = (
            (windows - 1) * stride + kernel - size - pad
            for windows, stride, kernel, size, pad in zip(
                output[2:], self.stride, self.kernel, data[2:], self.pad, strict=True
            )
        )
        return tuple(max(pad, overhang) for pad, overhang in zip(self.pad, overhangs, strict=True))


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
            need(not is_free, "adaptive pooling into more than one window needs a fixed size")
            rows, columns = (_averages(s, w) for s, w in zip(sizes, self.size, strict=True))
            lines = build.node("lines", "MatMul", [build.floats("rows", rows), data])
            build.finish("MatMul", [lines, build.floats("columns", columns.T)])


def _averages(size: int, windows: int) -> Array:
    """Return the matrix [windows, size] that computes the average of each window."""
    number, position = np.arange(windows)[:, None], np.arange(size)
    is_inside = (number * size // windows <= position) & (position < -(-(number + 1) * size // windows))
    return np.asarray(is_inside / is_inside.sum(1, keepdims=True))
