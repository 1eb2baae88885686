"""Windows over the spatial axes, and the order of axes, which convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.base import need

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# Hints by which MXNet chooses an algorithm. They do not change the result.
_KERNEL_HINTS: Final = ("workspace", "cudnn_tune", "cudnn_off")
_MAX_AXES: Final = 3

CHANNELS_FIRST: Final = ("NCHW", "NCW", "NCDHW")
CHANNELS_LAST: Final = ("NHWC", "NDHWC")


@dataclass(frozen=True)
class Layout:
    """The order of axes: batch, channels and spatial axes, or batch, spatial axes and channels."""

    channels_last: bool = False

    def first(self, shape: Shape) -> Shape:
        """Return a shape with the channels behind the batch."""
        return (shape[0], shape[-1], *shape[1:-1]) if self.channels_last else shape

    def own(self, shape: Shape) -> Shape:
        """Return a shape, whose channels are behind the batch, in this layout."""
        return (shape[0], *shape[2:], shape[1]) if self.channels_last else shape

    def array_first(self, array: Array) -> Array:
        return np.moveaxis(array, -1, 1) if self.channels_last else array

    def array_own(self, array: Array) -> Array:
        return np.moveaxis(array, 1, -1) if self.channels_last else array

    def enter(self, build: NodeBuilder, number: int = 0) -> str:
        """Emit an input with the channels behind the batch."""
        tensor, shape = build.inputs[number], build.input_shapes[number]
        if not self.channels_last:
            return tensor
        if tensor in build.values:
            return build.floats("weights", np.moveaxis(build.values[tensor], -1, 1))
        order = self.first(tuple(range(len(shape))))
        return build.node("first", "Transpose", [tensor], perm=order)

    def finish(self, build: NodeBuilder, operator: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Emit the last node, whose result has the channels behind the batch, and bring the result to this layout."""
        if not self.channels_last:
            build.finish(operator, inputs, **attributes)
            return
        result = build.node("result", operator, inputs, **attributes)
        order = self.own(tuple(range(len(build.output_shapes[0]))))
        build.finish("Transpose", [result], perm=order)


def read_kernel(attributes: Attributes, default: Shape | None = None) -> Shape:
    """Read the kernel's size, and check the hints."""
    kernel = attributes.integers("kernel", default, least=1, most=_MAX_AXES)
    attributes.without_effect(*_KERNEL_HINTS)
    return kernel


def read_layout(attributes: Attributes, *others: str) -> Layout:
    """Read the layout, one of the usual ones or of the `others`, whose channels are last."""
    channels_last = (*CHANNELS_LAST, *others)
    return Layout(attributes.choice("layout", (*CHANNELS_FIRST, *channels_last), "NCHW") in channels_last)


def read_by_axis(attributes: Attributes, name: str, kernel: Shape, default: int, *, least: int = 0) -> Shape:
    """Read an attribute with one number for each axis of the kernel."""
    axes = len(kernel)
    return attributes.integers(name, (default,) * axes, least=least, length=axes or None)


def need_axes(kernel: Shape, data: Shape) -> None:
    need(len(data) == 2 + len(kernel), f"a {len(kernel)}-dimensional kernel does not fit {data}")


def window_counts(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Sequence[int], *, up: bool = False
) -> Shape:
    """Return the number of windows along each axis: (size + 2 * pad - span) / stride + 1, rounded down, or `up`."""
    counts = []
    for size, span, stride, pad in zip(sizes, spans, strides, pads, strict=True):
        need(size + 2 * pad <= MAX_INTEGER, f"{size} padded by {pad} is larger than {MAX_INTEGER}")
        room = size + 2 * pad - span
        need(room >= 0, f"a window of {span} does not fit into {size} padded by {pad}; use a larger input")
        counts.append((room + stride - 1 if up else room) // stride + 1)
    return tuple(counts)


def padded(data: Array, before: Shape, after: Shape, value: float = 0) -> Array:
    """Return an array with the channels behind the batch, with a border of one value around the spatial axes."""
    if not any(before + after):
        return data
    return np.pad(data, ((0, 0), (0, 0), *zip(before, after, strict=True)), constant_values=value)


def taps(data: Array, kernel: Shape, stride: Shape, dilate: Shape, counts: Shape) -> Iterator[Array]:
    """Yield, for each place in the kernel in its order, a view of the elements there: [batch, channels, *counts]."""
    for place in np.ndindex(*kernel):
        slices = (
            slice(at * gap, at * gap + (count - 1) * step + 1, step)
            for at, gap, count, step in zip(place, dilate, counts, stride, strict=True)
        )
        yield data[:, :, *slices]
