"""Anchors, and the boxes that a head makes of them, as upstream computes them.

Source of the rules: mxnet-SSH's `generate_anchors` and `bbox_pred`. Boxes are (x1, y1, x2, y2) in pixels of the
network's input, with the corner pixels included: a width is x2 - x1 + 1.

The model card of SSH is wrong in two places against that source: deltas are (dx, dy, dw, dh), not (dx, dy, dh, dw), and
(dx, dy) moves the centre of the box, not its upper left corner.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import pydantic

from sshconvert.arrays import Array, Floats, Indices
from sshconvert.schema import Dimension, Strict, TensorName
from sshconvert.tasks.faults import Outputs
from sshconvert.tasks.results import Detections

Ratio = Annotated[float, pydantic.Field(gt=0, le=100)]


class AnchorHead(Strict):
    """One stride: its anchors, and the names of the tensors with their scores, box deltas and landmarks.

    The window of `base_size` gives an anchor for each ratio (height over width), and each of these one for each scale.
    For A anchors, `scores` is [N, 2A, H, W], the background of each anchor and then the object of each, and `boxes`
    is [N, 4A, H, W].
    """

    stride: Dimension
    base_size: Dimension = 16
    scales: tuple[Dimension, ...] = pydantic.Field(min_length=1)
    ratios: tuple[Ratio, ...] = pydantic.Field(default=(1.0,), min_length=1)
    scores: TensorName
    boxes: TensorName
    landmarks: TensorName | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its tensors, in the network's order."""
        return tuple(filter(None, (self.scores, self.boxes, self.landmarks)))

    @property
    def sizes(self) -> tuple[tuple[float, float], ...]:
        """Width and height of each anchor, in the order of the channels; upstream rounds before it scales."""
        widths = [float(round(math.sqrt(self.base_size**2 / ratio))) for ratio in self.ratios]
        return tuple(
            (width * scale, round(width * ratio) * scale)
            for width, ratio in zip(widths, self.ratios, strict=True)
            for scale in self.scales
        )

    @property
    def centre(self) -> float:
        """How far the centres of the anchors lie right of and below the corner of their cell, in pixels."""
        return (self.base_size - 1) / 2

    def anchors(self, height: int, width: int) -> Floats:
        """Anchor boxes over `height` x `width` cells: float32 [height * width * A, 4], row by row."""
        return self._anchors_at(*np.divmod(np.arange(height * width * len(self.sizes)), len(self.sizes)), width)

    def decode(self, outputs: Outputs, numbers: Indices) -> Detections:
        """The anchors with these numbers [K], moved by their deltas, for one image: not clipped.

        `outputs` are the tensors of the image, without the batch. The result has their precision.
        """
        height, width = outputs[self.boxes].shape[1:]
        cells, kinds = np.divmod(numbers, len(self.sizes))
        first = 4 * kinds * (height * width) + cells
        # A row for each part of a delta, transposed: so everything that follows runs along memory.
        deltas = outputs[self.boxes].reshape(-1)[first + np.arange(4)[:, None] * (height * width)].T
        boxes = apply_deltas(self._anchors_at(cells, kinds, width), deltas)
        return Detections(boxes, self.scores_of(outputs)[numbers])

    def scores_of(self, outputs: Outputs) -> Array:
        """The score of every anchor for one image, without the batch: [H * W * A], row by row."""
        scores: Array = outputs[self.scores][len(self.sizes) :].transpose(1, 2, 0).reshape(-1)
        return scores

    def _anchors_at(self, cells: Indices, kinds: Indices, width: int) -> Floats:
        """The anchors of these kinds [K] (which of `sizes`) at these cells [K] (row by row, `width` a row): [K, 4]."""
        reach = (np.array(self.sizes).T - 1) / 2
        base = np.concatenate([self.centre - reach, self.centre + reach])
        rows, columns = np.divmod(cells, width) * np.array(self.stride)
        boxes: Floats = (base[:, kinds] + [columns, rows, columns, rows]).astype(np.float32).T
        return boxes


def apply_deltas(boxes: Floats, deltas: Array) -> Array:
    """Move and resize `boxes` [K, 4] by `deltas` [K, 4]: (dx, dy) in box sizes, (dw, dh) in logarithms."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + 0.5 * (sizes - 1)
    largest = np.finfo(deltas.dtype).max
    with np.errstate(over="ignore"):  # untrained heads ask for boxes of infinite size; clipping makes them the image
        centres = np.clip(deltas[:, :2] * sizes + centres, -largest, largest)  # infinity minus itself is no number
        reach = 0.5 * (np.exp(deltas[:, 2:]) * sizes - 1)
        return np.concatenate([centres - reach, centres + reach], axis=1)


def highest(scores: Array, count: int | None) -> Indices:
    """Ascending indices of the `count` highest of `scores` [K], which hold no NaN; of equal ones the first."""
    if count is None or len(scores) <= count:
        return np.arange(len(scores))
    least = np.partition(scores, -count)[-count]
    taken = scores > least
    equal = np.flatnonzero(scores == least)
    taken[equal[: count - np.count_nonzero(taken)]] = True
    return np.flatnonzero(taken)
