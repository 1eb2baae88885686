"""Pooling."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need, need_floats
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

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class Pooling(Operator):
    """Maximum, average, sum or root of a sum of powers (`lp`) over windows.

    `valid` rounds the number of windows down. `full` rounds it up, so that the last window may end behind the padding;
    that part does not count. `same` has a window for each stride. An average counts the padding if it is included.
    """

    name = "Pooling"
    aliases: ClassVar[tuple[str, ...]] = ("_npx_pooling",)
    value_preserving = ("MaxPool",)
    restrictions = (
        "Each window holds data. `same` is for one spatial axis, as in MXNet. "
        "`full` and `same` need a fixed size for sums, with padding, and with strides larger than the kernel."
    )

    kernel: Shape
    stride: Shape
    pad: Shape
    function: str
    convention: str
    is_global: bool
    count_padding: bool
    power: int
    layout: Layout

    @classmethod
    def read(cls, attributes: Attributes) -> Pooling:
        convention = attributes.choice("pooling_convention", ("valid", "full", "same"), "valid")
        fields = _read_windows(attributes, convention)
        function = attributes.choice("pool_type", ("max", "avg", "sum", "lp"), "max")
        # MXNet reads p_value for `lp` alone, and there it has no default.
        power = attributes.optional_integer("p_value", least=1, most=3 if function == "lp" else 2**31 - 1)
        if function == "lp" and power is None:
            attributes.problems.append("attribute p_value is missing")
        return cls(
            **fields,
            function=function,
            convention=convention,
            count_padding=attributes.boolean("count_include_pad", default=True),
            power=(power or 1) if function == "lp" else 1,
            layout=read_layout(attributes, "NWC"),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) > 2, f"the input {inputs[0]} has no spatial axes")
        batch, channels, *sizes = self.layout.first(inputs[0])
        if not self.is_global:
            need_axes(self.kernel, inputs[0])
        need(self.convention != "same" or len(sizes) == 1, f"`same` pooling has one spatial axis, not {inputs[0]}")
        return (self.layout.own((batch, channels, *self._counts(tuple(sizes)))),)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def _counts(self, sizes: Shape) -> Shape:
        """Return the number of windows along each axis."""
        if self.is_global:
            return (1,) * len(sizes)
        if self.convention == "same":
            return tuple(-(-size // stride) for size, stride in zip(sizes, self.stride, strict=True))
        return window_counts(sizes, self.kernel, self.stride, self.pad, up=self.convention == "full")

    def flops(self, *inputs: Shape) -> float:
        return math.prod(self.layout.first(inputs[0])[2:] if self.is_global else self.kernel)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = self.layout.array_first(inputs[0])
        return (self.layout.array_own(self._reduced(data, self._windows(data.shape[2:]))),)

    def _windows(self, sizes: Shape) -> _Windows:
        if self.is_global:
            return _Windows(sizes, sizes, (1,) * len(sizes), (0,) * len(sizes), (1,) * len(sizes))
        return _Windows(sizes, self.kernel, self.stride, self.pad, self._counts(sizes))

    def _reduced(self, data: Array, windows: _Windows) -> Array:
        if self.function == "max":
            return windows.largest(data)
        sums = windows.sums(data if self.power == 1 else data**self.power)
        if self.function == "avg":
            return np.asarray(sums / self._elements(windows))
        if self.power == 1:
            return sums
        return np.asarray(np.sqrt(sums) if self.power == 2 else np.cbrt(sums))

    def _elements(self, windows: _Windows) -> Array:
        """Return the number of elements by which an average divides, for each window."""
        return windows.elements(windows.pad if self.count_padding else (0,) * len(windows.pad))

    # --- ONNX

    def emit(self, build: NodeBuilder) -> None:
        data = self._raised(build, self.layout.enter(build))
        if self.function == "max" and any(node.op_type == "Pad" and data in node.output for node in build.nodes):
            # ONNX Runtime 1.31 fuses zeros of a Pad into a MaxPool, whose padding is minus infinity. A node separates.
            data = build.node("separate", "Concat", [data], axis=1)
        if self.is_global:
            self._emit_global(build, data)
            return
        windows = self._windows(self.layout.first(build.input_shapes[0])[2:])
        if self.convention == "valid" or (self.convention == "full" and set(self.stride) == {1}):
            self._emit_windows(build, data, windows, self.pad)
        elif self._rounds_up_alike():
            count = {} if self.function == "max" else {"count_include_pad": 0}
            self.layout.finish(build, self._operator, [data], **self._attributes(self.pad), ceil_mode=1, **count)
        else:
            # Runtimes interpret `ceil_mode` differently here. Explicit padding is right for one size of the input.
            need(not self._is_free(build), "pooling that rounds up needs a fixed size here")
            tensor = self._only_of_size(build, data)
            self._emit_windows(build, tensor, windows, windows.pads_behind())

    @property
    def _operator(self) -> str:
        return "MaxPool" if self.function == "max" else "AveragePool"

    def _is_free(self, build: NodeBuilder) -> bool:
        return any(self.layout.first(build.free_input())[2:])

    def _rounds_up_alike(self) -> bool:
        """Return whether `ceil_mode` means the same in MXNet and all runtimes: without padding and gaps.

        Averages ignore padding then.
        """
        has_gaps = any(kernel < stride for kernel, stride in zip(self.kernel, self.stride, strict=True))
        return self.convention == "full" and self.function in ("max", "avg") and not any(self.pad) and not has_gaps

    def _attributes(self, behind: Shape) -> dict[str, Any]:
        return {"kernel_shape": self.kernel, "strides": self.stride, "pads": self.pad + behind}

    def _raised(self, build: NodeBuilder, data: str) -> str:
        """Emit the powers of the elements."""
        power = data
        for number in range(2, self.power + 1):
            power = build.node(f"power{number}", "Mul", [power, data])
        return power

    def _emit_root(self, build: NodeBuilder, sums: str) -> None:
        """Emit the root of the sums, in the layout of the output."""
        if self.power == 2:  # the square root
            self.layout.finish(build, "Sqrt", [sums])
            return
        absolute, sign = build.node("absolute", "Abs", [sums]), build.node("sign", "Sign", [sums])
        root = build.node("root", "Pow", [absolute, build.floats("third", 1 / 3)])
        self.layout.finish(build, "Mul", [sign, root])

    def _emit_global(self, build: NodeBuilder, data: str) -> None:
        if self.function in ("max", "avg"):
            self.layout.finish(build, f"Global{self._operator}", [data])
            return
        axes = build.integers("axes", tuple(range(2, len(build.input_shapes[0]))))
        if self.power == 1:
            self.layout.finish(build, "ReduceSum", [data, axes], keepdims=1)
        else:
            self._emit_root(build, build.node("sums", "ReduceSum", [data, axes], keepdims=1))

    def _emit_windows(self, build: NodeBuilder, data: str, windows: _Windows, behind: Shape) -> None:
        """Emit a pooling with explicit padding."""
        need(windows.hold_data(), "windows that hold no data are not supported")
        if self.function == "max":
            self.layout.finish(build, "MaxPool", [data], **self._attributes(behind))
            return
        attributes = self._attributes(behind)
        elements = self._elements(windows)
        if self.function == "avg" and not self.count_padding:
            self.layout.finish(build, "AveragePool", [data], **attributes, count_include_pad=0)
            return
        size = math.prod(self.kernel)
        factor = size / elements if self.function == "avg" else np.array(float(size))
        if (factor == 1).all() and self.power == 1:
            self.layout.finish(build, "AveragePool", [data], **attributes, count_include_pad=1)
            return
        average = build.node("average", "AveragePool", [data], **attributes, count_include_pad=1)
        inputs = [average, build.floats("factor", factor)]
        if self.power == 1:
            self.layout.finish(build, "Mul", inputs)
        else:
            self._emit_root(build, build.node("sums", "Mul", inputs))

    def _only_of_size(self, build: NodeBuilder, tensor: str) -> str:
        """Emit nodes that return the tensor, and fail if its spatial axes have other sizes."""
        for axis, size in enumerate(self.layout.first(build.input_shapes[0])[2:], 2):
            tensor = build.node(f"size{axis}", "Split", [tensor, build.integers(f"only{axis}", (size,))], axis=axis)
        return tensor


def _read_windows(attributes: Attributes, convention: str) -> dict[str, Any]:
    """Read the attributes that `Pooling` and `Pooling_v1` share."""
    is_global = attributes.boolean("global_pool", default=False)
    kernel = read_kernel(attributes, () if is_global else None)
    pad = (0,) * len(kernel)
    if convention == "same":
        # MXNet reads three numbers here, which must be 0, for the one axis.
        if any(attributes.integers("pad", pad, most=3)):
            attributes.problems.append("attribute pad is not supported with `same`")
    else:
        pad = read_by_axis(attributes, "pad", kernel, 0)
    stride = read_by_axis(attributes, "stride", kernel, 1, least=1)
    return {"kernel": kernel, "stride": stride, "pad": pad, "is_global": is_global}


@dataclass(frozen=True)
class _Windows:
    """The windows over spatial axes of these sizes."""

    sizes: Shape
    kernel: Shape
    stride: Shape
    pad: Shape
    counts: Shape

    def pads_behind(self) -> Shape:
        """Return the padding behind each axis up to the end of the last window, but at least `pad`."""
        return tuple(
            max(pad, (count - 1) * stride + kernel - size - pad) for size, kernel, stride, pad, count in self._by_axis()
        )

    def _by_axis(self) -> zip[tuple[int, int, int, int, int]]:
        return zip(self.sizes, self.kernel, self.stride, self.pad, self.counts, strict=True)

    def hold_data(self) -> bool:
        """Return whether each window holds data."""
        first = all(pad < kernel for pad, kernel in zip(self.pad, self.kernel, strict=True))
        last = all((count - 1) * stride - pad < size for size, _, stride, pad, count in self._by_axis())
        return first and last

    def elements(self, pad: Shape) -> Array:
        """Return the number of elements of each window, [*counts], in the data or in a padding."""
        numbers = []
        for (size, kernel, stride, begin, count), border in zip(self._by_axis(), pad, strict=True):
            starts = np.arange(count) * stride - begin
            inside = np.minimum(starts + kernel, size + border) - np.maximum(starts, -border)
            numbers.append(np.maximum(inside, 0))
        return np.asarray(functools.reduce(np.multiply.outer, numbers))

    def sums(self, data: Array) -> Array:
        sums = np.zeros((*data.shape[:2], *self.counts))
        for seen in self._taps(data, 0):
            sums += seen
        return sums

    def largest(self, data: Array) -> Array:
        return np.asarray(functools.reduce(np.maximum, self._taps(data, -np.inf)))

    def _taps(self, data: Array, value: float) -> list[Array]:
        everything = padded(data, self.pad, self.pads_behind(), value)
        return list(taps(everything, self.kernel, self.stride, (1,) * len(self.kernel), self.counts))


@register
@dataclass(frozen=True)
class PoolingV1(Pooling):
    """The pooling of older versions, of images: the padding is zeros, also for a maximum.

    An average divides by the size of the kernel, however much of the window lies outside.
    """

    name = "Pooling_v1"
    aliases = ()
    value_preserving = ("MaxPool",)
    restrictions = "As `Pooling`, for two spatial axes."

    @classmethod
    def read(cls, attributes: Attributes) -> PoolingV1:
        convention = attributes.choice("pooling_convention", ("valid", "full"), "valid")
        return cls(
            **_read_windows(attributes, convention),
            function=attributes.choice("pool_type", ("max", "avg", "sum"), "max"),
            convention=convention,
            count_padding=True,
            power=1,
            layout=Layout(),
        )

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"the input {inputs[0]} has not two spatial axes")
        return super().output_shapes(*inputs)

    def _elements(self, windows: _Windows) -> Array:
        return np.array(float(math.prod(windows.kernel)))

    def _rounds_up_alike(self) -> bool:
        return self.function == "max" and super()._rounds_up_alike()

    @property
    def _pads_with_zeros(self) -> bool:
        return self.function == "max" and not self.is_global and any(self.pad)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        if not self._pads_with_zeros:
            return super().evaluate(*inputs)
        return replace(self, pad=(0, 0)).evaluate(padded(inputs[0], self.pad, self.pad))

    def emit(self, build: NodeBuilder) -> None:
        if not self._pads_with_zeros:
            super().emit(build)
            return
        pads = build.integers("pads", (0, 0, *self.pad) * 2)
        data = build.node("padded", "Pad", [build.inputs[0], pads])
        shapes, larger = ([self._padded(each[0])] for each in (build.input_shapes, build.larger_input_shapes))
        rest = replace(build, inputs=[data], input_shapes=shapes, larger_input_shapes=larger)
        replace(self, pad=(0, 0)).emit(rest)

    def _padded(self, shape: Shape) -> Shape:
        return (*shape[:2], *(size + 2 * pad for size, pad in zip(shape[2:], self.pad, strict=True)))
