"""Operators that change the resolution."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, Weights, need, need_floats
from sshconvert.operators.convolution import Deconvolution
from sshconvert.operators.registry import register
from sshconvert.operators.windows import Layout

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class UpSampling(Operator):
    """Upsampling by an integer factor.

    `nearest` repeats the elements of each input, so that all inputs have `scale` times the size of the first, and joins
    or adds them. `bilinear` is a deconvolution of each channel by weights, which need not be bilinear.
    """

    name = "UpSampling"
    inputs = ("data", "weight")
    weights = Weights("ConvTranspose", ("ConvolutionBackpropData", "GroupConvolutionBackpropData"))
    restrictions = "NCHW only. Several inputs have sizes in fixed proportions."

    scale: int
    count: int
    is_sum: bool
    bilinear: Deconvolution | None

    @classmethod
    def read(cls, attributes: Attributes) -> UpSampling:
        attributes.without_effect("workspace")
        scale = attributes.integer("scale", least=1, most=1000)
        count = attributes.integer("num_args", 1, least=1, most=MOST_INPUTS)
        is_sum = attributes.choice("multi_input_mode", ("concat", "sum"), "concat") == "sum"
        filters = attributes.integer("num_filter", 0)
        bilinear = attributes.choice("sample_type", ("nearest", "bilinear")) == "bilinear"
        return cls(scale, count, is_sum, _deconvolution(scale, filters) if bilinear else None)

    def input_count(self) -> int:
        return self.bilinear.input_count() if self.bilinear else self.count

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        if self.bilinear is None:
            return ()
        need(self.bilinear.filters > 0, "attribute num_filter is missing")
        return self.bilinear.parameter_shapes(data)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        for shape in inputs:
            need(len(shape) == 4, f"UpSampling needs an NCHW input, not {shape}")
        if self.bilinear:
            return self.bilinear.output_shapes(*inputs)
        batch, channels, *sizes = inputs[0]
        size = tuple(each * self.scale for each in sizes)
        for shape in inputs:
            factor = self._factor(shape, inputs[0])
            fits = shape[0] == batch and tuple(each * factor for each in shape[2:]) == size
            need(fits and (not self.is_sum or shape[1] == channels), f"{shape} does not fit beside {inputs[0]}")
        total = channels if self.is_sum else sum(shape[1] for shape in inputs)
        return ((batch, total, *size),)

    def _factor(self, shape: Shape, first: Shape) -> int:
        return first[2] * self.scale // shape[2]

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(*inputs)
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return self.bilinear.flops(*inputs) if self.bilinear else 0

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        if self.bilinear:
            return self.bilinear.evaluate(*inputs)
        factors = [self._factor(array.shape, inputs[0].shape) for array in inputs]
        large = [array.repeat(factor, 2).repeat(factor, 3) for array, factor in zip(inputs, factors, strict=True)]
        return (functools.reduce(np.add, large) if self.is_sum else np.concatenate(large, 1),)

    def emit(self, build: NodeBuilder) -> None:
        if self.bilinear:
            self.bilinear.emit(build)
            return
        shapes, larger = build.input_shapes, build.larger_input_shapes
        factors = [self._factor(shape, shapes[0]) for shape in shapes]
        same = factors == [self._factor(shape, larger[0]) for shape in larger]
        need(same, "inputs whose sizes are not in fixed proportions need a fixed size")
        if len(factors) == 1:
            build.output(build.outputs[0], *self._resize(build, 0, factors[0]), **_NEAREST)
            return
        large = [
            build.node(f"large{number}", *self._resize(build, number, factor), **_NEAREST)
            for number, factor in enumerate(factors)
        ]
        if self.is_sum:
            for number, tensor in enumerate(large[1:-1], 1):
                large[0] = build.node(f"sum{number}", "Add", [large[0], tensor])
            build.finish("Add", [large[0], large[-1]])
        else:
            build.finish("Concat", large, axis=1)

    @staticmethod
    def _resize(build: NodeBuilder, number: int, factor: int) -> tuple[str, list[str]]:
        """Return the operator and the inputs of the node that enlarges an input."""
        return "Resize", [build.inputs[number], "", build.floats(f"scales{number}", (1, 1, factor, factor))]


MOST_INPUTS: Final = 1000

_NEAREST: Final = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def _deconvolution(scale: int, filters: int) -> Deconvolution:
    """Return the deconvolution, of each channel, by which MXNet upsamples bilinearly."""
    pad = scale // 2
    return Deconvolution(
        kernel=(2 * scale - scale % 2,) * 2,
        stride=(scale,) * 2,
        dilate=(1, 1),
        pad=(pad, pad),
        filters=filters,
        groups=max(filters, 1),
        bias=False,
        layout=Layout(),
        adjust=(0, 0),
        target=(),
    )


@register
@dataclass(frozen=True)
class BilinearResize2D(Operator):
    """Bilinear interpolation to another height and width.

    With `align_corners`, MXNet's default, the outermost pixels of both images lie at the same places; otherwise the
    outer edges of those pixels do.
    """

    name = "_contrib_BilinearResize2D"
    aliases = ("BilinearResize2D",)
    inputs = ("data", "like")
    restrictions = "NCHW only. A size that depends on a scale or on the parity needs a fixed size."

    mode: str
    sizes: Shape
    scales: tuple[float, ...]
    align_corners: bool

    # For sizes that have the wrong parity: what is added to them.
    _PARITY = MappingProxyType(
        {"to_even_down": (1, -1), "to_even_up": (1, 1), "to_odd_down": (0, -1), "to_odd_up": (0, 1)}
    )
    _LARGEST = 10_000

    @classmethod
    def read(cls, attributes: Attributes) -> BilinearResize2D:
        mode = attributes.choice("mode", ("size", "odd_scale", "like", *cls._PARITY), "size")
        sizes = tuple(attributes.integer(name, 1, least=1, most=cls._LARGEST) for name in ("height", "width"))
        scales = [attributes.number(name, 0) for name in ("scale_height", "scale_width")]
        align_corners = attributes.boolean("align_corners", default=True)
        # In the mode "size", MXNet takes `height` and `width` if the scale of the height is missing.
        if not scales[0] if mode == "size" else mode != "odd_scale":
            scales = []
        elif not all(scales):
            attributes.problems.append("attribute scale_height or scale_width is missing, or 0")
        return cls(mode, sizes, tuple(scales), align_corners)

    def input_count(self) -> int:
        return 2 if self.mode == "like" else 1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"resizing needs an NCHW input, not {inputs[0]}")
        need(self.mode != "like" or len(inputs[1]) == 4, f"resizing needs an NCHW input to be like, not {inputs[-1]}")
        return ((*inputs[0][:2], *self._resized(*(shape[2:] for shape in inputs))),)

    def _resized(self, sizes: Shape, like: Shape = ()) -> Shape:
        if self.mode == "like":
            return like
        if self.mode in self._PARITY:
            wrong, by = self._PARITY[self.mode]
            return tuple(size + by * (size % 2 == wrong) for size in sizes)
        if not self.scales:
            return self.sizes
        odd = [size % 2 if self.mode == "odd_scale" else 0 for size in sizes]
        # MXNet multiplies in float32.
        return tuple(
            int(np.float32(size - one) * np.float32(scale)) + one
            for size, one, scale in zip(sizes, odd, self.scales, strict=True)
        )

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 7

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        sizes = self._resized(*(array.shape[2:] for array in inputs))
        rows, columns = (self._weights(*pair) for pair in zip(inputs[0].shape[2:], sizes, strict=True))
        return (rows @ inputs[0] @ columns.T,)

    def _weights(self, size: int, resized: int) -> Array:
        """Return the matrix [resized, size] that interpolates along one axis."""
        steps = np.arange(resized, dtype=np.float64)
        if resized == 1:
            places = np.zeros(1)
        elif self.align_corners:
            places = steps * (size - 1) / (resized - 1)
        else:
            places = np.clip((steps + 0.5) * size / resized - 0.5, 0, size - 1)
        return np.asarray(np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0))

    def emit(self, build: NodeBuilder) -> None:
        depends = self.mode not in ("size", "like") or self.scales
        need(not depends or not any(build.free_output[2:]), "resizing by a scale or to a parity needs a fixed size")
        mode = "align_corners" if self.align_corners else "pytorch_half_pixel"
        inputs = [build.inputs[0], "", "", self._emit_shape(build)]
        build.finish("Resize", inputs, mode="linear", coordinate_transformation_mode=mode)

    def _emit_shape(self, build: NodeBuilder) -> str:
        """Emit the output's shape: the input's batch and channels, and the size."""
        if not any(build.free_output):
            return build.integers("shape", build.output_shapes[0])
        before = build.node("before", "Shape", [build.inputs[0]])
        kept = build.node("kept", "Gather", [before, build.integers("first", (0, 1))])
        if any(build.free_output[2:]):
            like = build.node("like", "Shape", [build.inputs[1]])
            size = build.node("size", "Gather", [like, build.integers("last", (2, 3))])
        else:
            size = build.integers("size", build.output_shapes[0][2:])
        return build.node("shape", "Concat", [kept, size], axis=0)
