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


@register
@dataclass(frozen=True)
class PsRoiPooling(_RegionPooling):
    """The mean of each bin of a region, from a channel of its own; 0 for a bin outside the map.

    The channels are [output channels, groups, groups], and a bin reads the group at its place.
    """

    name = "_contrib_PSROIPooling"
    restrictions = "Maps of a fixed batch, height and width. The image of a region exists."

    outputs: int
    groups: int

    @classmethod
    def read(cls, attributes: Attributes) -> PsRoiPooling:
        bins = attributes.integer("pooled_size", least=1)
        return cls(
            size=(bins, bins),
            scale=attributes.number("spatial_scale", None),
            outputs=attributes.integer("output_dim", least=1),
            groups=attributes.integer("group_size", 0) or bins,
        )

    def channels(self, channels: int) -> int:
        expected = self.outputs * self.groups**2
        need(channels == expected, f"{channels} channels, expected {expected}")
        return self.outputs

    @property
    def own_groups(self) -> Array:
        """The group of each bin along an axis."""
        return np.arange(self.size[0]) * self.groups // self.size[0]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, regions = inputs[0], inputs[1].astype(np.float32)
        outputs = np.zeros(self.output_shapes(data.shape, regions.shape)[0])
        grouped = data.reshape(len(data), self.outputs, self.groups, self.groups, *data.shape[2:])
        for output, region in zip(outputs, regions, strict=True):
            columns, rows = (self._bounds(region[axis], region[axis + 2], data.shape[4 - axis]) for axis in (1, 2))
            for row, (top, bottom) in enumerate(rows):
                for column, (left, right) in enumerate(columns):
                    if top < bottom and left < right:
                        own = grouped[int(region[0]), :, self.own_groups[row], self.own_groups[column]]
                        output[:, row, column] = own[:, top:bottom, left:right].mean(axis=(1, 2))
        return (outputs,)

    def _bounds(self, first: Any, last: Any, length: int) -> Array:
        """Return the first pixel of each bin along one axis, and the one behind its last: [bins, 2]."""
        begin, end = (np.float32(place) * np.float32(self.scale) for place in (_rounded(first), _rounded(last) + 1))
        step = max(end - begin, np.float32(0.1)) / np.float32(self.size[0])
        ends = np.arange(self.size[0] + 1, dtype=np.float32) * step + begin
        bounds: Array = np.clip(np.stack([np.floor(ends[:-1]), np.ceil(ends[1:])], axis=1), 0, length)
        return bounds.astype(np.int64)

    def emit(self, build: NodeBuilder) -> None:
        """Emit the sums of all bins as products of the map with the rows, then the columns, of each bin."""
        images, _, height, width = build.input_shapes[0]
        need(not any(build.free_input()), "needs a fixed size")
        bins = self.size[0]
        low, high, image = self._emit_bounds(build, (width, height))
        lengths = build.node("lengths", "Max", [build.node("spans", "Sub", [high, low]), build.floats("no_length", 0)])
        ones = build.integers("axes", (1, 1))
        sides = [build.split(role, "Split", [pair, ones], 2, axis=1) for role, pair in (("low", low), ("high", high))]
        across, down = (
            self._inside(build, role, sides[0][axis], sides[1][axis], pixels)
            for axis, (role, pixels) in enumerate(
                (("columns", np.arange(width)), ("rows", np.tile(np.arange(height), images)))
            )
        )
        own = build.node("is_own", "Equal", [image, build.floats("image_rows", np.repeat(np.arange(images), height))])
        down = build.node("own_rows", "Mul", [down, build.cast("own", own)])
        down = build.node("rows_by_bin", "Transpose", [down], perm=(1, 0, 2))
        down = build.node("rows_of_bins", "Unsqueeze", [down, build.integers("bin_axis", (1,))])
        sums = build.node("row_sums", "MatMul", [down, self._by_group(build)])
        shape = build.integers("sums_shape", (bins, bins, -1, self.outputs, width))
        sums = build.node("sums", "Reshape", [sums, shape])
        across = build.node("columns_by_bin", "Transpose", [across], perm=(1, 0, 2))
        across = build.node(
            "columns_of_bins", "Reshape", [across, build.integers("columns_shape", (1, bins, -1, 1, width))]
        )
        masked = build.node("masked", "Mul", [sums, across])
        total = build.node("total", "ReduceSum", [masked, build.integers("width_axis", (4,))], keepdims=0)
        total = build.node("by_region", "Transpose", [total], perm=(2, 3, 0, 1))
        wide, tall = build.split("wide", "Split", [lengths, ones], 2, axis=1)
        tall = build.node("tall_columns", "Transpose", [tall], perm=(0, 2, 1))
        area = build.node("area", "Max", [build.node("areas", "Mul", [tall, wide]), build.floats("least_area", 1)])
        area = build.node("bin_area", "Unsqueeze", [area, build.integers("channel_axis", (1,))])
        build.finish("Div", [total, area])

    def _emit_bounds(self, build: NodeBuilder, sizes: Shape) -> tuple[str, str, str]:
        """Emit the bounds of each bin across and down [R, 2, bins], and the image of each region [R, 1, 1]."""
        image, corners = build.split(
            "image", "Split", [build.inputs[1], build.integers("parts", (1, REGION - 1))], 2, axis=1
        )
        length = build.node("absolute", "Abs", [corners])
        whole = build.node("whole", "Floor", [length])
        rest = build.node("rest", "Sub", [length, whole])
        more = build.cast("more", build.node("is_more", "GreaterOrEqual", [rest, build.floats("half", 0.5)]))
        rounded = build.node(
            "rounded", "Mul", [build.node("up", "Add", [whole, more]), build.node("sign", "Sign", [corners])]
        )
        ends = build.node("ends", "Add", [rounded, build.floats("behind", (0, 0, 1, 1))])
        places = build.node("scaled", "Mul", [ends, build.floats("scale", self.scale)])
        pairs = build.node("pairs", "Reshape", [places, build.integers("pairs_shape", (-1, 4, 1))])
        begin, end = build.split("begin", "Split", [pairs, build.integers("corner_parts", (2, 2))], 2, axis=1)
        extent = build.node("extent", "Max", [build.node("size", "Sub", [end, begin]), build.floats("least", 0.1)])
        step = build.node("step", "Div", [extent, build.floats("bins", self.size[0])])
        limit, zero = build.floats("limit", np.array(sizes)[:, None]), build.floats("zero", 0)
        bounds = []
        for role, operator, first in (("low", "Floor", 0), ("high", "Ceil", 1)):
            numbers = build.floats(f"{role}_numbers", np.arange(self.size[0]) + first)
            place = build.node(f"{role}_place", "Add", [build.node(f"{role}_offset", "Mul", [step, numbers]), begin])
            pixel = build.node(f"{role}_pixel", operator, [place])
            bounds.append(
                build.node(f"{role}_bound", "Min", [build.node(f"{role}_from_0", "Max", [pixel, zero]), limit])
            )
        number = build.cast("image_float", build.cast("image_number", image, np.int64))
        return bounds[0], bounds[1], build.node("image_column", "Unsqueeze", [number, build.integers("last", (2,))])

    @staticmethod
    def _inside(build: NodeBuilder, role: str, low: str, high: str, pixels: Array) -> str:
        """Emit which pixels along an axis are in each bin: float32 [R, bins, pixels]."""
        numbers = build.floats(f"{role}_pixels", pixels)
        first, end = (
            build.node(f"{role}_{side}", "Transpose", [bound], perm=(0, 2, 1))
            for side, bound in (("first", low), ("end", high))
        )
        from_first = build.cast(f"{role}_behind", build.node(f"{role}_reached", "GreaterOrEqual", [numbers, first]))
        to_end = build.cast(f"{role}_before", build.node(f"{role}_left", "Greater", [end, numbers]))
        return build.node(role, "Mul", [from_first, to_end])

    def _by_group(self, build: NodeBuilder) -> str:
        """Emit the map by the groups of the bins: [bins, bins, images * height, channels * width]."""
        images, _, height, width = build.input_shapes[0]
        shape = (images, self.outputs, self.groups, self.groups, height, width)
        data = build.node("grouped", "Reshape", [build.inputs[0], build.integers("grouped_shape", shape)])
        data = build.node("by_group", "Transpose", [data], perm=(2, 3, 0, 4, 1, 5))
        flat = build.integers("flat_shape", (self.groups, self.groups, images * height, self.outputs * width))
        data = build.node("flat", "Reshape", [data, flat])
        if self.groups != self.size[0]:
            own = build.integers("own_groups", self.own_groups)
            data = build.node("own_down", "Gather", [data, own], axis=0)
            data = build.node("own_across", "Gather", [data, own], axis=1)
        return data


def _rounded(value: Any) -> int:
    """Round half away from 0."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
