"""Convolution and deconvolution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, Weights, need, need_floats
from sshconvert.operators.registry import register
from sshconvert.operators.windows import (
    Layout,
    need_axes,
    padded,
    read_by_axis,
    read_kernel,
    read_layout,
    taps,
    window_counts,
)
from sshconvert.threads import in_threads

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


_END: Final = 2**31 - 1  # beyond each axis
_MOST_COLUMNS: Final = 1 << 21  # elements of the windows that one product of matrices takes


@dataclass(frozen=True)
class _Filters(Operator):
    """The fields and the ONNX attributes that convolution and deconvolution share."""

    inputs = ("data", "weight", "bias")

    kernel: Shape
    stride: Shape
    dilate: Shape
    pad: Shape
    filters: int
    groups: int
    bias: bool
    layout: Layout

    def input_count(self) -> int:
        return 3 if self.bias else 2

    @abstractmethod
    def weight_shape(self, channels: int) -> Shape:
        """Return the shape of the weights, without regard to the layout, for an input with `channels` channels."""

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need_axes(self.kernel, data)
        channels = self.layout.first(data)[1]
        need(
            channels % self.groups == 0 and self.filters % self.groups == 0,
            f"{channels} channels and {self.filters} filters do not divide into {self.groups} groups",
        )
        weight = self.layout.own(self.weight_shape(channels))
        return (weight, (self.filters,)) if self.bias else (weight,)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(*inputs)
        return (inputs[0],)

    @property
    def _spans(self) -> Shape:
        """The sizes of the dilated kernel."""
        return tuple(dilate * (kernel - 1) + 1 for kernel, dilate in zip(self.kernel, self.dilate, strict=True))

    def _finished(self, sums: Array, bias: tuple[Array, ...]) -> tuple[Array, ...]:
        """Add the bias, if there is one, to sums with the channels behind the batch."""
        for values in bias:
            sums += values.reshape(-1, *[1] * len(self.kernel))
        return (self.layout.array_own(sums),)

    def _emit(self, build: NodeBuilder, operator: str, pads: Shape, data: str = "", **attributes: Any) -> None:
        data, weight = data or self.layout.enter(build, 0), self.layout.enter(build, 1)
        shared = {"kernel_shape": self.kernel, "strides": self.stride, "dilations": self.dilate, "group": self.groups}
        inputs = [data, weight, *build.inputs[2:]]
        self.layout.finish(build, operator, inputs, pads=pads, **shared | attributes)


def _read_filters(attributes: Attributes, *, no_bias: bool) -> dict[str, Any]:
    """Read the fields of `_Filters`. `no_bias` is the operator's default."""
    kernel = read_kernel(attributes)
    return {
        "kernel": kernel,
        "stride": read_by_axis(attributes, "stride", kernel, 1, least=1),
        "dilate": read_by_axis(attributes, "dilate", kernel, 1, least=1),
        "pad": read_by_axis(attributes, "pad", kernel, 0),
        "filters": attributes.integer("num_filter", least=1),
        "groups": attributes.integer("num_group", 1, least=1),
        "bias": not attributes.boolean("no_bias", default=no_bias),
        "layout": read_layout(attributes),
    }


@register
@dataclass(frozen=True)
class Convolution(_Filters):
    """Convolution with weights [filters, channels / groups, *kernel], in the layout of the input.

    Each filter is a sum of products over a window and the channels of its group. Zeros surround the input.
    """

    name = "Convolution"
    aliases = ("Convolution_v1", "_npx_convolution")
    weights = Weights("Conv", ("Convolution", "GroupConvolution"))

    @classmethod
    def read(cls, attributes: Attributes) -> Convolution:
        return cls(**_read_filters(attributes, no_bias=False))

    def weight_shape(self, channels: int) -> Shape:
        return (self.filters, channels // self.groups, *self.kernel)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, _, *sizes = self.layout.first(inputs[0])
        return (self.layout.own((batch, self.filters, *window_counts(sizes, self._spans, self.stride, self.pad))),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * math.prod(inputs[1][1:]) + self.bias

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, weight = (self.layout.array_first(array) for array in inputs[:2])
        batch, channels, *sizes = data.shape
        counts = window_counts(sizes, self._spans, self.stride, self.pad)
        surrounded = padded(data, self.pad, self.pad)
        matrices = weight.reshape(self.groups, self.filters // self.groups, -1)
        result = np.empty((batch, self.filters, *counts), data.dtype)
        sums = result.reshape(batch, *matrices.shape[:2], -1)
        places, across = math.prod(self.kernel), math.prod(counts[1:])
        rows = min(counts[0], max(1, _MOST_COLUMNS // (batch * channels * places * across)))

        def multiply(blocks: Sequence[int]) -> None:
            """Multiply the windows of some blocks of rows, to save memory, which all blocks share."""
            space = np.empty((batch, channels, places, rows, *counts[1:]), data.dtype)
            for first in blocks:
                block = (min(rows, counts[0] - first), *counts[1:])
                windows = space if block[0] == rows else np.empty((*space.shape[:3], *block), data.dtype)
                views = taps(surrounded[:, :, first * self.stride[0] :], self.kernel, self.stride, self.dilate, block)
                for place, view in enumerate(views):
                    windows[:, :, place] = view
                columns = windows.reshape(batch, self.groups, matrices.shape[2], -1)
                np.matmul(matrices, columns, out=sums[..., first * across : (first + block[0]) * across])

        in_threads(multiply, range(0, counts[0], rows))
        return self._finished(result, inputs[2:])

    def emit(self, build: NodeBuilder) -> None:
        if math.prod(self.kernel) > 1 or math.prod(self.stride) == 1 or not any(self.pad):
            self._emit(build, "Conv", self.pad * 2)
        else:
            self._emit_sliced(build)

    def _emit_sliced(self, build: NodeBuilder) -> None:
        """Add a pointwise convolution whose strides are a slice: OpenVINO 2026.4 moves them before the padding."""
        axes = range(2, 2 + len(self.pad))
        edges = build.integers("edges", (0, 0, *self.pad) * 2)
        begins, ends = (build.integers(role, [at for _ in axes]) for role, at in (("begins", 0), ("ends", _END)))
        data = build.node("surrounded", "Pad", [self.layout.enter(build, 0), edges])
        steps = build.integers("steps", self.stride)
        data = build.node("strided", "Slice", [data, begins, ends, build.integers("axes", axes), steps])
        self._emit(build, "Conv", (0,) * len(self.pad) * 2, data=data, strides=(1,) * len(self.pad))


@register
@dataclass(frozen=True)
class Deconvolution(_Filters):
    """Transposed convolution with weights [channels, filters / groups, *kernel], in the layout of the input.

    Each element of the input adds its product with the kernel to a window of the output. `pad` is cut off at both ends,
    `adj` is added behind. A `target_shape` replaces both: the odd element of what is cut off is cut off in front.
    """

    name = "Deconvolution"
    aliases = ("_npx_deconvolution",)
    weights = Weights("ConvTranspose", ("ConvolutionBackpropData", "GroupConvolutionBackpropData"))
    restrictions = "Each `adj` is smaller than its `stride`. A `target_shape` needs a fixed size."

    adjust: Shape
    target: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Deconvolution:
        filters = _read_filters(attributes, no_bias=True)
        kernel = filters["kernel"]
        target = read_by_axis(attributes, "target_shape", kernel, 0)
        adjust = read_by_axis(attributes, "adj", kernel, 0)
        return cls(**filters, adjust=adjust, target=target if any(target) else ())

    def weight_shape(self, channels: int) -> Shape:
        return (channels, self.filters // self.groups, *self.kernel)

    def _full_sizes(self, sizes: Shape) -> Shape:
        """Return the size of the output before its ends are cut off."""
        return tuple(
            stride * (size - 1) + span for size, span, stride in zip(sizes, self._spans, self.stride, strict=True)
        )

    def _cuts(self, sizes: Shape) -> tuple[Shape, Shape]:
        """Return what is cut off in front of each axis and behind it; what is added behind is negative."""
        if not self.target:
            return self.pad, tuple(pad - adjust for pad, adjust in zip(self.pad, self.adjust, strict=True))
        totals = [full - target for full, target in zip(self._full_sizes(sizes), self.target, strict=True)]
        need(min(totals) >= 0, f"the target shape {self.target} is larger than the output {self._full_sizes(sizes)}")
        return tuple((total + 1) // 2 for total in totals), tuple(total // 2 for total in totals)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        is_smaller = all(adjust < stride for adjust, stride in zip(self.adjust, self.stride, strict=True))
        need(is_smaller or bool(self.target), f"adj {self.adjust} is not smaller than the stride {self.stride}")
        batch, _, *sizes = self.layout.first(inputs[0])
        full, cuts = self._full_sizes(tuple(sizes)), self._cuts(tuple(sizes))
        left = tuple(size - front - back for size, front, back in zip(full, *cuts, strict=True))
        need(all(size > 0 for size in left), f"the padding {self.pad} removes all of the output for {inputs[0]}")
        return (self.layout.own((batch, self.filters, *left)),)

    def flops(self, *inputs: Shape) -> float:
        products = 2 * (self.layout.first(inputs[0])[1] // self.groups) * math.prod(self.kernel)
        return products / math.prod(self.stride) + self.bias

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, weight = (self.layout.array_first(array) for array in inputs[:2])
        batch, channels, *sizes = data.shape
        full, (front, back) = self._full_sizes(tuple(sizes)), self._cuts(tuple(sizes))
        per_group = (self.groups, channels // self.groups, self.filters // self.groups)
        columns = data.reshape(batch, *per_group[:2], -1)
        sums = padded(
            np.zeros((batch, self.filters, *full), data.dtype), (0,) * len(full), tuple(max(0, -cut) for cut in back)
        )
        matrices = weight.reshape(*per_group, -1).transpose(3, 0, 2, 1)
        views = taps(sums, self.kernel, self.stride, self.dilate, tuple(sizes))
        for matrix, view in zip(matrices, views, strict=True):
            np.add(view, (matrix @ columns).reshape(view.shape), out=view)
        ends = (size - max(0, cut) for size, cut in zip(sums.shape[2:], back, strict=True))
        left = sums[:, :, *(slice(start, end) for start, end in zip(front, ends, strict=True))]
        return self._finished(left, inputs[2:])

    def emit(self, build: NodeBuilder) -> None:
        is_free = any(self.layout.first(build.free_input())[2:])
        need(not self.target or not is_free, "a target_shape needs a fixed size")
        front, back = self._cuts(self.layout.first(build.input_shapes[0])[2:])
        added = tuple(max(0, -cut) for cut in back)
        pads = front + tuple(max(0, cut) for cut in back)
        self._emit(build, "ConvTranspose", pads, output_padding=added)
