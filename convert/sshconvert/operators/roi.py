"""Operators that pool regions of a feature map to a fixed size.

A region is `image, xmin, ymin, xmax, ymax`; the corners are in pixels of the image, of which the map is `scale` times
the size. MXNet computes the place of a region in float32, and so does `evaluate`: rounding decides where a bin begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

REGION: Final = 5
MOST_SAMPLES: Final = 64


@dataclass(frozen=True)
class _RegionPooling(Operator):
    """The fields and shapes that the operators share."""

    inputs = ("data", "rois")

    size: Shape
    scale: float

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        data, regions = inputs
        need(len(data) == 4, f"regions are of NCHW maps, not of {data}")
        need(len(regions) == 2 and regions[1] == REGION, f"regions have the shape (regions, 5), not {regions}")
        return ((regions[0], self.channels(data[1]), *self.size),)

    def channels(self, channels: int) -> int:
        """Return the number of channels of the output."""
        return channels


def _read_regions(attributes: Attributes) -> dict[str, Any]:
    return {
        "size": attributes.integers("pooled_size", least=1, length=2),
        "scale": attributes.number("spatial_scale", None),
    }


@register
@dataclass(frozen=True)
class RoiAlign(_RegionPooling):
    """The mean of bilinear samples in each bin of a region; 0 for a region with a negative image.

    A sample more than one pixel outside the map is 0. Without `aligned`, a region is at least one pixel wide and high.
    MXNet 1.9.1 leaves arbitrary numbers for a region with a negative image, and overwrites one of the first region.
    """

    name = "_contrib_ROIAlign"
    restrictions = (
        "`sample_ratio` is given: without it, the regions decide the work of a run. With `aligned`, regions have a "
        "positive width and height."
    )

    samples: int  # in each direction of a bin
    is_sensitive: bool  # each bin reads a channel of its own
    is_aligned: bool  # pixels have their centres at .5

    @classmethod
    def read(cls, attributes: Attributes) -> RoiAlign:
        return cls(
            **_read_regions(attributes),
            samples=attributes.integer("sample_ratio", None, least=1, most=MOST_SAMPLES),
            is_sensitive=attributes.boolean("position_sensitive", default=False),
            is_aligned=attributes.boolean("aligned", default=False),
        )

    @property
    def opset(self) -> int:
        return 16 if self.is_aligned else 0

    def channels(self, channels: int) -> int:
        if not self.is_sensitive:
            return channels
        bins = math.prod(self.size)
        need(channels % bins == 0, f"{channels} channels do not divide into {bins} bins")
        return channels // bins

    def flops(self, *inputs: Shape) -> float:
        return 8 * self.samples**2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, regions = inputs[0], inputs[1].astype(np.float32)
        outputs = np.zeros(self.output_shapes(data.shape, regions.shape)[0])
        for output, region in zip(outputs, regions, strict=True):
            if int(region[0]) < 0:
                continue
            columns, rows = (
                self._weights(region[axis], region[axis + 2], self.size[2 - axis], data.shape[4 - axis])
                for axis in (1, 2)
            )
            pooled = rows @ data[int(region[0])] @ columns.T
            if self.is_sensitive:
                bins = pooled.reshape(len(output), math.prod(self.size), -1)
                pooled = np.diagonal(bins, axis1=1, axis2=2)
            output[:] = pooled.reshape(output.shape)
        return (outputs,)

    def _weights(self, first: Any, last: Any, bins: int, length: int) -> Array:
        """Return the share of each pixel in each bin along one axis: [bins, length]."""
        shift = np.float32(0.5 if self.is_aligned else 0)
        first, last = (place * np.float32(self.scale) - shift for place in (first, last))
        extent = last - first if self.is_aligned else max(last - first, np.float32(1))
        step = extent / np.float32(bins)
        inside = (np.arange(self.samples, dtype=np.float32) + np.float32(0.5)) * step / np.float32(self.samples)
        places = (first + np.arange(bins, dtype=np.float32) * step)[:, None] + inside
        is_near = (places >= -1) & (places <= length)
        places = np.clip(places, 0, length - 1).astype(np.float64)
        distances = np.abs(places[..., None] - np.arange(length))
        shares: Array = np.where(is_near[..., None], np.maximum(1 - distances, 0), 0).mean(axis=1)
        return shares

    def emit(self, build: NodeBuilder) -> None:
        image, corners = build.split(
            "image", "Split", [build.inputs[1], build.integers("parts", (1, REGION - 1))], 2, axis=1
        )
        number = build.cast(
            "number", build.node("images", "Squeeze", [image, build.integers("column", (1,))]), np.int64
        )
        zero = build.integers("first", 0)
        mode = {"coordinate_transformation_mode": "half_pixel"} if self.is_aligned else {}
        if build.opset >= 16 and not self.is_aligned:
            mode = {"coordinate_transformation_mode": "output_half_pixel"}
        pooled = build.node(
            "pooled",
            "RoiAlign",
            [build.inputs[0], corners, build.node("known", "Max", [number, zero])],
            output_height=self.size[0],
            output_width=self.size[1],
            sampling_ratio=self.samples,
            spatial_scale=self.scale,
            **mode,
        )
        if self.is_sensitive:
            pooled = self._own_channels(build, pooled)
        is_none = build.node("is_none", "Greater", [zero, number])
        mask = build.node("mask", "Reshape", [is_none, build.integers("mask_shape", (-1, 1, 1, 1))])
        build.finish("Where", [mask, build.floats("nothing", 0), pooled])

    def _own_channels(self, build: NodeBuilder, pooled: str) -> str:
        """Emit the value of each bin in its own channel."""
        bins, channels = math.prod(self.size), build.output_shapes[0][1]
        flat = build.node("flat", "Reshape", [pooled, build.integers("flat_shape", (0, channels, bins * bins))])
        places = build.integers("own", np.arange(bins) * (bins + 1))
        own = build.node("own_bins", "Gather", [flat, places], axis=2)
        return build.node("bins", "Reshape", [own, build.integers("bins_shape", (0, channels, *self.size))])


@register
@dataclass(frozen=True)
class RoiPooling(_RegionPooling):
    """The maximum of each bin of a region, whose corners are rounded to pixels; 0 for a bin outside the map."""

    name = "ROIPooling"
    restrictions = "The image of a region exists."

    @classmethod
    def read(cls, attributes: Attributes) -> RoiPooling:
        return cls(**_read_regions(attributes))

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, regions = inputs[0], inputs[1].astype(np.float32)
        outputs = np.zeros(self.output_shapes(data.shape, regions.shape)[0])
        for output, region in zip(outputs, regions, strict=True):
            columns, rows = (
                self._bounds(region[axis], region[axis + 2], self.size[2 - axis], data.shape[4 - axis])
                for axis in (1, 2)
            )
            for row, (top, bottom) in enumerate(rows):
                for column, (left, right) in enumerate(columns):
                    if top < bottom and left < right:
                        output[:, row, column] = data[int(region[0]), :, top:bottom, left:right].max(axis=(1, 2))
        return (outputs,)

    def _bounds(self, first: Any, last: Any, bins: int, length: int) -> Array:
        """Return the first pixel of each bin along one axis, and the one behind its last: [bins, 2]."""
        first, last = (_rounded(place * np.float32(self.scale)) for place in (first, last))
        step = np.float32(max(last - first + 1, 1)) / np.float32(bins)
        ends = np.arange(bins + 1, dtype=np.float32) * step
        bounds = np.stack([np.floor(ends[:-1]), np.ceil(ends[1:])], axis=1).astype(np.int64)
        inside: Array = np.clip(bounds + first, 0, length)
        return inside

    def emit(self, build: NodeBuilder) -> None:
        build.finish("MaxRoiPool", build.inputs, pooled_shape=self.size, spatial_scale=self.scale)


def _rounded(value: Any) -> int:
    """Round half away from 0."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
