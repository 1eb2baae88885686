"""Operators that change the resolution."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need, need_floats
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class UpSampling(Operator):
    """Nearest-neighbour upsampling of one input by an integer factor."""

    name = "UpSampling"
    restrictions = "NCHW only."

    scale: int

    @classmethod
    def read(cls, attributes: Attributes) -> UpSampling:
        attributes.without_effect("workspace", "num_filter", "multi_input_mode")
        attributes.choice("sample_type", ("nearest",))
        attributes.integer("num_args", 1, least=1, most=1)
        return cls(attributes.integer("scale", least=1))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) == 4, f"UpSampling needs an NCHW input, not {inputs[0]}")
        return ((*inputs[0][:2], *(size * self.scale for size in inputs[0][2:])),)

    def emit(self, build: NodeBuilder) -> None:
        scales = build.constant("scales", np.array([1, 1, self.scale, self.scale], np.float32))
        build.finish(
            "Resize",
            [build.inputs[0], "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
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
