"""Bilinear sampling of images at computed places."""

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


_MOST_PLACES: Final = 1 << 24  # of an output: they become a constant


def _read_size(attributes: Attributes) -> Shape:
    size = attributes.integers("target_shape", least=1, length=2)
    if math.prod(size) > _MOST_PLACES:
        attributes.problems.append(f"attribute target_shape='{size}' has more than {_MOST_PLACES} places")
    return size


def _places(size: Shape) -> Array:
    """Return x, y and 1 of each pixel, [3, height, width]. The outermost pixels of an image lie at -1 and 1."""
    rows, columns = (np.linspace(-1, 1, each) if each > 1 else np.array([-1.0]) for each in size)
    return np.stack([*np.meshgrid(columns, rows), np.ones(size)])


def _transformed(parameters: Array, size: Shape) -> Array:
    """Return the places after an affine map each, [batch, 2, height, width]."""
    grid = parameters.reshape(-1, 2, 3) @ _places(size).reshape(3, -1)
    return np.asarray(grid.reshape(-1, 2, *size))


def _emit_transformed(build: NodeBuilder, parameters: str, size: Shape) -> str:
    """Emit the places after an affine map each, [batch, 2, pixels]."""
    maps = build.node("maps", "Reshape", [parameters, build.integers("maps_shape", (-1, 2, 3))])
    return build.node("pixels", "MatMul", [maps, build.floats("places", _places(size).reshape(3, -1))])


def _sampled(data: Array, grid: Array) -> Array:
    """Return the bilinear interpolations at the places of the grid; beyond the image there are zeros."""
    height, width = data.shape[2:]
    columns, rows = (grid[:, 0] + 1) * (width - 1) / 2, (grid[:, 1] + 1) * (height - 1) / 2
    left, top = np.floor(columns), np.floor(rows)
    batch = np.arange(len(data))[:, None, None]
    result = np.zeros((*grid.shape[:1], *grid.shape[2:], data.shape[1]))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column))
        is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = (np.clip(each, 0, most - 1).astype(np.int64) for each, most in ((row, height), (column, width)))
        result += np.where(is_inside, share, 0)[..., None] * data[batch, :, *place]
    return np.moveaxis(result, -1, 1)


class _Sampler(Operator):
    """An operator that emits GridSample."""

    @property
    def opset(self) -> int:
        return 16

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(*inputs)
        return (inputs[0],)

    @staticmethod
    def _emit_sampled(build: NodeBuilder, grid: str) -> None:
        """Emit the samples of the first input at the places [batch, height, width, 2]."""
        build.finish("GridSample", [build.inputs[0], grid], mode="bilinear", padding_mode="zeros", align_corners=1)


@register
@dataclass(frozen=True)
class BilinearSampler(_Sampler):
    """Bilinear interpolations of an image at the places x, y of a grid [batch, 2, height, width].

    The centres of the outermost pixels lie at -1 and 1. Beyond the image there are zeros.
    """

    name = "BilinearSampler"
    inputs = ("data", "grid")

    @classmethod
    def read(cls, attributes: Attributes) -> BilinearSampler:
        attributes.without_effect("cudnn_off")
        return cls()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, grid = inputs
        fits = len(data) == len(grid) == 4 and data[0] == grid[0] and grid[1] == 2  # x and y
        need(fits, f"a grid {grid} does not fit an image {data}")
        return ((*data[:2], *grid[2:]),)

    def flops(self, *inputs: Shape) -> float:
        return 15

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (_sampled(*inputs),)

    def emit(self, build: NodeBuilder) -> None:
        self._emit_sampled(build, build.node("grid", "Transpose", [build.inputs[1]], perm=(0, 2, 3, 1)))


@register
@dataclass(frozen=True)
class SpatialTransformer(_Sampler):
    """Bilinear interpolations of an image at the places of an output of another size after an affine map."""

    name = "SpatialTransformer"
    inputs = ("data", "loc")

    size: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> SpatialTransformer:
        attributes.without_effect("cudnn_off")
        attributes.choice("transform_type", ("affine",))
        attributes.choice("sampler_type", ("bilinear",))
        return cls(_read_size(attributes))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return ((data[0], 6),)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"a spatial transformer needs an NCHW input, not {inputs[0]}")
        return ((*inputs[0][:2], *self.size),)

    def flops(self, *inputs: Shape) -> float:
        return 15

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (_sampled(inputs[0], _transformed(inputs[1], self.size)),)

    def emit(self, build: NodeBuilder) -> None:
        pixels = _emit_transformed(build, build.inputs[1], self.size)
        columns = build.node("columns", "Transpose", [pixels], perm=(0, 2, 1))
        shape = build.integers("grid_shape", (-1, *self.size, 2))
        self._emit_sampled(build, build.node("grid", "Reshape", [columns, shape]))


@register
@dataclass(frozen=True)
class GridGenerator(Operator):
    """The places at which an image is sampled, [batch, 2, height, width]: x and y from -1 to 1.

    `affine` maps the places of an image of `target_shape` by six numbers each. `warp` adds offsets in pixels.
    """

    name = "GridGenerator"
    restrictions = "`warp` needs a fixed size."

    size: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> GridGenerator:
        if attributes.choice("transform_type", ("affine", "warp")) == "warp":
            attributes.without_effect("target_shape")
            return cls(())
        return cls(_read_size(attributes))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data = inputs[0]
        if self.size:
            need(len(data) == 2 and data[1] == 6, f"affine maps have the shape (batch, 6), not {data}")
            return ((data[0], 2, *self.size),)
        need(len(data) == 4 and data[1] == 2, f"offsets have the shape (batch, 2, height, width), not {data}")
        need(min(data[2:]) > 1, f"offsets of {data} have no scale")
        return (data,)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 6

    @staticmethod
    def _scale(size: Shape) -> Array:
        """Return half of the distance of the outermost pixels, for x and y, [2, 1, 1]."""
        return np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])[:, None, None]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        if self.size:
            return (_transformed(inputs[0], self.size),)
        size = inputs[0].shape[2:]
        return (inputs[0] / self._scale(size) + _places(size)[:2],)

    def emit(self, build: NodeBuilder) -> None:
        if self.size:
            pixels = _emit_transformed(build, build.inputs[0], self.size)
            build.finish("Reshape", [pixels, build.integers("shape", (-1, 2, *self.size))])
            return
        need(not any(build.free_output[2:]), "a warp needs a fixed size")
        size = build.output_shapes[0][2:]
        offsets = build.node("offsets", "Div", [build.inputs[0], build.floats("scale", self._scale(size))])
        build.finish("Add", [offsets, build.floats("places", _places(size)[:2])])
