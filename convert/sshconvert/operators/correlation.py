"""The correlation of two feature maps, as networks of optical flow compute it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register
from sshconvert.operators.windows import window_counts

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

MOST_DISPLACEMENTS: Final = 1 << 12


@register
@dataclass(frozen=True)
class Correlation(Operator):
    """The mean of the products, or absolute differences, of windows of two maps, a channel for each displacement.

    The displacements of the second map's window are multiples of `step` of at most `reach` pixels, row by row.
    """

    name = "Correlation"
    inputs = ("data1", "data2")
    restrictions = f"`kernel_size` is odd. At most {MOST_DISPLACEMENTS} displacements."

    kernel: int
    reach: int
    stride: int
    step: int
    pad: int
    multiplies: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Correlation:
        kernel = attributes.integer("kernel_size", 1, least=1)
        if kernel % 2 == 0:
            attributes.problems.append(f"attribute kernel_size={kernel} is not supported: expected an odd number")
        return cls(
            kernel=kernel,
            reach=attributes.integer("max_displacement", 1),
            stride=attributes.integer("stride1", 1, least=1),
            step=attributes.integer("stride2", 1, least=1),
            pad=attributes.integer("pad_size", 0),
            multiplies=attributes.boolean("is_multiply", default=True),
        )

    @property
    def displacements(self) -> range:
        """The displacements along an axis."""
        most = self.reach // self.step * self.step
        return range(-most, most + 1, self.step)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return (data,)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        first, second = inputs
        need(len(first) == 4 and first == second, f"maps are NCHW and of one shape, not {first} and {second}")
        count = len(self.displacements) ** 2
        need(count <= MOST_DISPLACEMENTS, f"{count} displacements are more than {MOST_DISPLACEMENTS}")
        span = self.kernel + 2 * self.reach
        return ((first[0], count, *window_counts(first[2:], (span,) * 2, (self.stride,) * 2, (self.pad,) * 2)),)

    def flops(self, *inputs: Shape) -> float:
        return 2 * inputs[0][1] * self.kernel**2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        first, second = (np.pad(data, ((0, 0), (0, 0), (self.pad,) * 2, (self.pad,) * 2)) for data in inputs)
        (shape,) = self.output_shapes(*(data.shape for data in inputs))
        outputs = np.zeros(shape)
        for channel, (down, across) in enumerate(self._pairs()):
            for row in range(self.kernel):
                for column in range(self.kernel):
                    one = self._window(first, row, column, shape)
                    other = self._window(second, row + down, column + across, shape)
                    each = one * other if self.multiplies else np.abs(one - other)
                    outputs[:, channel] += each.mean(axis=1)
        return (outputs / self.kernel**2,)

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return ((down, across) for down in self.displacements for across in self.displacements)

    def _window(self, data: Array, row: int, column: int, shape: Shape) -> Array:
        """Return the pixels at a place of all windows: [N, C, H, W]."""
        rows, columns = (
            self.reach + first + self.stride * np.arange(count)
            for first, count in zip((row, column), shape[2:], strict=True)
        )
        return data[:, :, rows[:, None], columns]

    def emit(self, build: NodeBuilder) -> None:
        first, second = build.inputs
        if self.pad:
            pads = build.integers("pads", (0, 0, *(self.pad,) * 2) * 2)
            first, second = (
                build.node(f"padded{number}", "Pad", [data, pads]) for number, data in enumerate(build.inputs, 1)
            )
        axes = build.integers("axes", (2, 3))
        middle = self._moved(build, first, (0, 0), axes)
        channels: list[str] = []
        for down, across in self._pairs():
            role = f"moved{len(channels)}"
            pair = [middle, self._moved(build, second, (down, across), axes, role)]
            each = build.node(f"{role}_each", "Mul" if self.multiplies else "Sub", pair)
            if not self.multiplies:
                each = build.node(f"{role}_distance", "Abs", [each])
            channels.append(build.node(f"{role}_mean", "ReduceMean", [each], axes=[1], keepdims=1))
        means = build.node("means", "Concat", channels, axis=1)
        build.finish("AveragePool", [means], kernel_shape=(self.kernel,) * 2, strides=(self.stride,) * 2)

    def _moved(self, build: NodeBuilder, data: str, by: tuple[int, int], axes: str, role: str = "middle") -> str:
        """Emit the pixels of all windows of a displacement."""
        first = [self.reach + move for move in by]
        last = [move - self.reach or MAX_INTEGER for move in by]
        bounds = [build.integers(f"{role}_{name}", values) for name, values in (("from", first), ("to", last))]
        return build.node(role, "Slice", [data, *bounds, axes])
