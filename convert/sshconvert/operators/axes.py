"""Axes of shapes, counted from the front or, if negative, from the back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sshconvert.arrays import DType
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, Attributes
from sshconvert.operators.base import need

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


def read_axis(attributes: Attributes, name: str, default: int | None = None) -> int:
    """Read an axis of an operator. A negative one counts from the back."""
    return attributes.integer(name, default, least=-MAX_DIMENSIONS)


def axis_in(axis: int, shape: Shape) -> int:
    """Return an axis counted from the front. Raises ShapeError if the shape does not have it."""
    need(-len(shape) <= axis < len(shape), f"axis {axis} is not an axis of {shape}")
    return axis % len(shape)


def axes_in(axes: Iterable[int], shape: Shape) -> Shape:
    """Return axes counted from the front. Raises ShapeError if an axis is missing or repeated."""
    counted = tuple(axis_in(axis, shape) for axis in axes)
    need(len(set(counted)) == len(counted), f"the axes {counted} of {shape} repeat")
    return counted


def replaced(shape: Shape, axis: int, *sizes: int) -> Shape:
    """Return a shape with other sizes in place of the one at `axis`, which is not negative."""
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def same_dtype(dtypes: Sequence[DType]) -> DType:
    """Return the type that all inputs have. Raises ShapeError if they differ."""
    names = sorted({str(dtype) for dtype in dtypes})
    need(len(names) == 1, f"the types {shown(names)} of the inputs differ")
    return dtypes[0]


def emit_sizes(build: NodeBuilder, role: str, tensor: str, axes: Shape) -> str:
    """Add nodes that read the sizes of `axes`, which are not negative, in each run. Return a tensor of int64."""
    shape = build.node(f"{role}_of", "Shape", [tensor])
    return build.node(role, "Gather", [shape, build.integers(f"{role}_axes", axes)])
