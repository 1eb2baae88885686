"""Operators that generate anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.registry import register

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@register
@dataclass(frozen=True)
class MultiBoxPrior(Operator):
    """Anchors around the cells of a feature map, in shares of the image's height and width.

    At each cell there is an anchor of each size in the first ratio, then an anchor of the first size in each other
    ratio.
    """

    name = "_contrib_MultiBoxPrior"
    aliases = ("MultiBoxPrior",)
    reads_values = False

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    clip: bool
    steps: tuple[float, ...]  # down and across; 0 or less for the cell's own size
    offsets: tuple[float, ...]  # down and across, in cells

    @classmethod
    def read(cls, attributes: Attributes) -> MultiBoxPrior:
        return cls(
            sizes=attributes.numbers("sizes", (1.0,)),
            ratios=attributes.numbers("ratios", (1.0,), least=1e-30),
            clip=attributes.boolean("clip", default=False),
            steps=attributes.numbers("steps", (-1.0, -1.0), length=2),
            offsets=attributes.numbers("offsets", (0.5, 0.5), least=0, length=2),
        )

    @property
    def count(self) -> int:
        """The number of anchors at each cell."""
        return len(self.sizes) + len(self.ratios) - 1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(len(inputs[0]) >= 4, f"anchors need an image, not {inputs[0]}")
        need(self.steps[0] * self.steps[1] >= 0, f"steps {self.steps} give only one of the two")
        need(max(self.offsets) <= 1, f"offsets {self.offsets} are not from 0 to 1")
        return ((1, inputs[0][2] * inputs[0][3] * self.count, 4),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        height, width = inputs[0].shape[2:4]
        steps = np.array(self.steps if min(self.steps) > 0 else (1 / height, 1 / width), np.float32)
        offsets = np.array(self.offsets, np.float32)
        down, across = (
            (np.arange(cells) + np.float64(offset)) * np.float64(step)
            for cells, offset, step in zip((height, width), offsets, steps, strict=True)
        )
        centres = np.stack(np.meshgrid(across, down), axis=-1)[:, :, None]
        sizes, roots = (values.astype(np.float64) for values in self._anchors())
        reach = np.stack([sizes * height / width * roots / 2, sizes / roots / 2], axis=-1)
        anchors = np.concatenate([centres - reach, centres + reach], axis=-1)
        clipped = np.clip(anchors, 0, 1) if self.clip else anchors
        return (clipped.reshape(1, -1, 4),)

    def _anchors(self) -> tuple[Array, Array]:
        """Return the size and the root of the ratio of each anchor of a cell."""
        others = len(self.ratios) - 1
        sizes = np.array((*self.sizes, *self.sizes[:1] * others), np.float32)
        ratios = np.array((*self.ratios[:1] * len(self.sizes), *self.ratios[1:]), np.float32)
        return sizes, np.sqrt(ratios)

    def emit(self, build: NodeBuilder) -> None:
        """Emit nodes that compute the anchors from the sizes of each run: export stores those of a fixed size."""
        shape = build.sizes("shape")
        lengths = [
            build.node(role, "Gather", [shape, build.integers(f"{role}_axis", axis)])
            for role, axis in (("height", 2), ("width", 3))
        ]
        height, width = (build.cast(f"{name}_float", name) for name in lengths)
        half, (sizes, roots) = build.floats("half", 0.5), self._anchors()
        wide = build.node("tall", "Mul", [build.floats("sizes", sizes[:, None]), height])
        wide = build.node("wide", "Div", [wide, width])
        wide = build.node("wide_in_ratio", "Mul", [wide, build.floats("roots", roots[:, None])])
        reach_across = build.node("reach_across", "Mul", [wide, half])
        reach_down = build.floats("reach_down", (sizes / roots / np.float32(2))[:, None])
        reach = build.node("reach", "Concat", [reach_across, reach_down], axis=1)
        ends = build.node("cells", "Concat", [self._size(build, lengths), build.integers("ones", (1, 1))], axis=0)
        planes = [
            self._centres(build, axis, lengths[axis], (height, width)[axis], ends)
            for axis in (1, 0)  # across, then down
        ]
        centres = build.node("centres", "Concat", planes, axis=3)
        corners = [build.node(role, role, [centres, reach]) for role in ("Sub", "Add")]
        anchors = build.node("corners", "Concat", corners, axis=3)
        if self.clip:
            anchors = build.node("from_0", "Max", [anchors, build.floats("zero", 0)])
            anchors = build.node("to_1", "Min", [anchors, build.floats("one", 1)])
        build.finish("Reshape", [anchors, build.integers("rows", (1, -1, 4))])

    @staticmethod
    def _size(build: NodeBuilder, lengths: Sequence[str]) -> str:
        axis = build.integers("first", (0,))
        return build.node("size", "Concat", [build.node("axis", "Unsqueeze", [one, axis]) for one in lengths], axis=0)

    def _centres(self, build: NodeBuilder, axis: int, length: str, cells: str, ends: str) -> str:
        """Emit the centres along one axis for each cell: float32 [H, W, 1, 1]."""
        role = ("down", "across")[axis]
        bounds = [build.integers(f"{role}_{name}", value) for name, value in (("from", 0), ("by", 1))]
        numbers = build.cast(f"{role}_float", build.node(f"{role}_numbers", "Range", [bounds[0], length, bounds[1]]))
        places = numbers
        if self.offsets[axis]:  # ONNX Runtime 1.31 loses the node in front of an addition of 0
            places = build.node(f"{role}_places", "Add", [numbers, build.floats(f"{role}_offset", self.offsets[axis])])
        if min(self.steps) > 0:
            step = build.floats(f"{role}_step", self.steps[axis])
        else:
            step = build.node(f"{role}_step", "Div", [build.floats(f"{role}_one", 1), cells])
        centres = build.node(f"{role}_centres", "Mul", [places, step])
        line = build.integers(f"{role}_line", (-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1))
        return build.node(f"{role}_plane", "Expand", [build.node(f"{role}_lines", "Reshape", [centres, line]), ends])
