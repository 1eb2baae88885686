"""Windows over the spatial axes, which convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.base import need

# Hints by which MXNet chooses an algorithm. They do not change the result.
_KERNEL_HINTS: Final = ("workspace", "cudnn_tune", "cudnn_off")
_CHANNELS_FIRST: Final = ("NCHW", "NCW", "NCDHW")
_MAX_AXES: Final = 3


def read_kernel(attributes: Attributes, default: Shape | None = None) -> Shape:
    """Read the kernel's size, and check the hints and the layout."""
    kernel = attributes.integers("kernel", default, least=1, most=_MAX_AXES)
    attributes.without_effect(*_KERNEL_HINTS)
    attributes.choice("layout", _CHANNELS_FIRST, "NCHW")
    return kernel


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
