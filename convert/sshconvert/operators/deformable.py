"""Convolutions whose samples are moved by offsets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, Weights, need
from sshconvert.operators.registry import register
from sshconvert.operators.windows import CHANNELS_FIRST, need_axes, read_by_axis, read_kernel, window_counts

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

PLANE: Final = 2


@dataclass(frozen=True)
class _Deformable(Operator):
    """A convolution of a sampled image: one that holds, for each window, the samples of the window.

    `offsets` [N, groups * kernel * 2, H, W] hold how far a sample of a window moves, down and across. Each of the
    deformable groups of channels has its own offsets.
    """

    weights = Weights("Conv", ("Convolution", "GroupConvolution"))
    restrictions = "2-D, with a fixed height and width."

    kernel: Shape
    stride: Shape
    dilate: Shape
    pad: Shape
    filters: int
    groups: int
    offset_groups: int
    bias: bool

    @classmethod
    def read(cls, attributes: Attributes) -> _Deformable:
        kernel = read_kernel(attributes)
        attributes.choice("layout", CHANNELS_FIRST, CHANNELS_FIRST[0])
        attributes.without_effect("im2col_step")
        if len(kernel) != PLANE:
            attributes.problems.append(f"kernel={kernel} is not supported: expected 2 sizes")
        return cls(
            kernel=kernel,
            stride=read_by_axis(attributes, "stride", kernel, 1, least=1),
            dilate=read_by_axis(attributes, "dilate", kernel, 1, least=1),
            pad=read_by_axis(attributes, "pad", kernel, 0),
            filters=attributes.integer("num_filter", least=1),
            groups=attributes.integer("num_group", 1, least=1),
            offset_groups=attributes.integer("num_deformable_group", 1, least=1),
            bias=not attributes.boolean("no_bias", default=False),
        )

    def input_count(self) -> int:
        return len(self.inputs) - (not self.bias)

    @property
    def samples(self) -> int:
        """The number of samples of a window."""
        return math.prod(self.kernel)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need_axes(self.kernel, data)
        need(
            all(number % self.groups == 0 for number in (data[1], self.filters)) and data[1] % self.offset_groups == 0,
            f"{data[1]} channels and {self.filters} filters do not divide into {self.groups} groups and "
            f"{self.offset_groups} deformable groups",
        )
        unknown: tuple[Shape, ...] = ((),) * (self.inputs.index("weight") - 1)
        weight = (self.filters, data[1] // self.groups, *self.kernel)
        return (*unknown, weight, (self.filters,)) if self.bias else (*unknown, weight)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilate, strict=True)]
        windows = window_counts(inputs[0][2:], spans, self.stride, self.pad)
        for name, shape, numbers in zip(self.inputs[1:], inputs[1:], (PLANE, 1), strict=False):
            if name in ("offset", "mask"):
                expected = (inputs[0][0], self.offset_groups * self.samples * numbers, *windows)
                need(shape == expected, f"{name} has shape {shape}, expected {expected}")
        return ((inputs[0][0], self.filters, *windows),)

    def flops(self, *inputs: Shape) -> float:
        channels = inputs[0][1]
        return 2 * channels // self.groups * self.samples + self.bias + 8 * channels * self.samples / self.filters

    def grid(self, windows: Shape) -> Array:
        """Return the place of each sample that does not move: [H, kernel, W, kernel, 2], float32, down and across."""
        axes = [
            (np.arange(count) * stride - pad)[:, None] + np.arange(kernel) * dilate
            for count, kernel, stride, dilate, pad in zip(
                windows, self.kernel, self.stride, self.dilate, self.pad, strict=True
            )
        ]
        down, across = np.broadcast_arrays(axes[0][:, :, None, None], axes[1][None, None])
        places: Array = np.stack([down, across], axis=-1).astype(np.float32)
        return places

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        named = dict(zip(self.inputs, inputs, strict=False))
        data, weight = named["data"], named["weight"]
        images, channels, *_ = data.shape
        (shape,) = self.output_shapes(*(array.shape for array in inputs))
        windows = shape[2:]
        sampled = np.empty((images, channels, self.samples, math.prod(windows)))
        for image in range(images):
            for group, part in enumerate(np.split(np.arange(channels), self.offset_groups)):
                moves = named["offset"][image].reshape(self.offset_groups, *self.kernel, PLANE, *windows)[group]
                places = self.grid(windows) + moves.transpose(3, 0, 4, 1, 2).astype(np.float32)
                values = self.sampled(data[image, part], places).transpose(0, 2, 4, 1, 3)
                sampled[image, part] = values.reshape(len(part), self.samples, -1)
        if "mask" in named:
            masks = named["mask"].reshape(images, self.offset_groups, 1, self.samples, -1)
            sampled = (sampled.reshape(images, self.offset_groups, -1, *sampled.shape[2:]) * masks).reshape(
                sampled.shape
            )
        columns = sampled.reshape(images, self.groups, -1, math.prod(windows))
        outputs = weight.reshape(self.groups, self.filters // self.groups, -1) @ columns
        outputs = outputs.reshape(shape)
        return (outputs + named["bias"][:, None, None] if self.bias else outputs,)

    def sampled(self, image: Array, places: Array) -> Array:
        """Return the samples [C, …] of an image [C, H, W] at places […, 2]."""
        sizes = np.array(image.shape[1:])
        inside, places = self.limited(places, sizes)
        first = np.floor(places).astype(np.int64)
        share = places.astype(np.float64) - first
        values = np.zeros((len(image), *places.shape[:-1]))
        padded = np.pad(image, ((0, 0), (1, 2), (1, 2)))
        for down in (0, 1):
            for across in (0, 1):
                corner = first + np.array((down, across))
                shares = np.abs(1 - np.array((down, across)) - share).prod(axis=-1)
                values += padded[:, corner[..., 0] + 1, corner[..., 1] + 1] * shares
        return values * inside

    def limited(self, places: Array, sizes: Array) -> tuple[Array, Array]:
        """Return which samples count, and the places moved into the image with a border of one pixel."""
        return np.ones(places.shape[:-1]), np.clip(places, -1, sizes.astype(np.float32))

    def emit(self, build: NodeBuilder) -> None:
        """Emit an image of the samples, which Conv reads with a stride of its kernel."""
        sizes, windows = build.input_shapes[0][2:], build.output_shapes[0][2:]
        need(not any((*build.free_input()[2:], *build.free_output[2:])), "needs a fixed size")
        tensors = dict(zip(self.inputs, build.inputs, strict=False))
        channels = build.input_shapes[0][1]
        count = math.prod(windows) * self.samples
        moves = build.integers("moves_shape", (-1, *self.kernel, PLANE, *windows))
        moves = build.node("moves", "Reshape", [tensors["offset"], moves])
        moves = build.node("moves_by_window", "Transpose", [moves], perm=(0, 4, 1, 5, 2, 3))
        places = build.node("places", "Add", [moves, build.floats("grid", self.grid(windows))])
        places, counts = self.emit_limited(build, places, sizes)
        places = build.node("places_rows", "Reshape", [places, build.integers("rows", (-1, count, PLANE))])
        values = self._bilinear(build, places, sizes, channels)
        for role, factor in (("mask", self._mask(build, tensors, windows)), ("counts", counts)):
            if factor:
                column = build.node(
                    f"{role}_rows", "Reshape", [factor, build.integers(f"{role}_column", (-1, count, 1))]
                )
                values = build.node(f"{role}_samples", "Mul", [values, column])
        values = build.node("by_channel", "Transpose", [values], perm=(0, 2, 1))
        shape = (-1, channels, *(size * count for size, count in zip(windows, self.kernel, strict=True)))
        image = build.node("sampled", "Reshape", [values, build.integers("sampled_shape", shape)])
        build.finish(
            "Conv",
            [image, *build.inputs[self.inputs.index("weight") :]],
            kernel_shape=self.kernel,
            strides=self.kernel,
            group=self.groups,
        )

    def _mask(self, build: NodeBuilder, tensors: dict[str, str], windows: Shape) -> str:
        """Emit the mask by window and sample, "" if the operator has none."""
        if "mask" not in tensors:
            return ""
        shape = build.integers("mask_shape", (-1, *self.kernel, *windows))
        mask = build.node("mask", "Reshape", [tensors["mask"], shape])
        return build.node("mask_by_window", "Transpose", [mask], perm=(0, 3, 1, 4, 2))

    def emit_limited(self, build: NodeBuilder, places: str, sizes: Shape) -> tuple[str, str]:
        """Emit `limited`. The second name is "" if all samples count."""
        low = build.node("from_border", "Max", [places, build.floats("border", -1)])
        return build.node("to_border", "Min", [low, build.floats("far_border", sizes)]), ""

    def _bilinear(self, build: NodeBuilder, places: str, sizes: Shape, channels: int) -> str:
        """Emit the samples [M, count, C] of each image and deformable group."""
        pads = build.integers("pads", (0, 0, 1, 1, 0, 0, 2, 2))
        padded = build.node("padded", "Pad", [build.inputs[0], pads])
        height, width = (size + 3 for size in sizes)
        shape = build.integers("pixels_shape", (-1, channels // self.offset_groups, height * width))
        pixels = build.node("pixels", "Reshape", [padded, shape])
        pixels = build.node("pixel_rows", "Transpose", [pixels], perm=(0, 2, 1))
        first = build.node("first", "Floor", [places])
        share = build.node("share", "Sub", [places, first])
        rest = build.node("other_share", "Sub", [build.floats("one", 1), share])
        whole = build.cast("whole", first, np.int64)
        strides = build.node("steps", "Mul", [whole, build.integers("strides", (width, 1))])
        axis = build.integers("last_axis", (2,))
        start = build.node("start", "ReduceSum", [strides, axis], keepdims=1)
        ones = build.integers("ones", (1, 1))
        shares = [
            build.split(role, "Split", [tensor, ones], 2, axis=2) for role, tensor in (("less", rest), ("more", share))
        ]
        total = ""
        for down in (0, 1):
            for across in (0, 1):
                role = f"corner{down}{across}"
                offset = build.integers(f"{role}_offset", (down + 1) * width + across + 1)
                corner = build.node(f"{role}_at", "Add", [start, offset])
                values = build.node(f"{role}_values", "GatherND", [pixels, corner], batch_dims=1)
                weight = build.node(f"{role}_share", "Mul", [shares[down][0], shares[across][1]])
                part = build.node(role, "Mul", [values, weight])
                total = build.node(f"{role}_total", "Add", [total, part]) if total else part
        return total


@register
@dataclass(frozen=True)
class DeformableConvolution(_Deformable):
    """Convolution of moved samples. A sample before the first pixel's centre, or a pixel behind the last, is 0.

    Between the last pixel's centre and a pixel behind it, a sample has the last pixel's value.
    """

    name = "_contrib_DeformableConvolution"
    inputs = ("data", "offset", "weight", "bias")

    def limited(self, places: Array, sizes: Array) -> tuple[Array, Array]:
        inside = np.all((places >= 0) & (places < sizes), axis=-1)
        return np.asarray(inside), np.clip(places, 0, (sizes - 1).astype(np.float32))

    def emit_limited(self, build: NodeBuilder, places: str, sizes: Shape) -> tuple[str, str]:
        zero = build.floats("zero", 0)
        low = build.node("from_0", "Max", [places, zero])
        near = build.node(
            "before_end", "Min", [low, build.floats("end", np.nextafter(np.array(sizes, np.float32), np.float32(0)))]
        )
        same = build.cast("is_near", build.node("is_same", "Equal", [near, places]))
        counts = build.node("counts", "ReduceMin", [same], axes=[-1], keepdims=1)
        return build.node("to_last", "Min", [near, build.floats("last", [size - 1 for size in sizes])]), counts


@register
@dataclass(frozen=True)
class ModulatedDeformableConvolution(_Deformable):
    """Convolution of moved samples, each times its mask. The image is 0 from one pixel outside."""

    name = "_contrib_ModulatedDeformableConvolution"
    inputs = ("data", "offset", "mask", "weight", "bias")
