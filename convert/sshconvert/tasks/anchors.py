"""Anchors, and the boxes that a head predicts from them.

The rules come from mxnet-SSH's `generate_anchors` and `bbox_pred`. Boxes are (x1, y1, x2, y2) in pixels of the
network's input, with the corner pixels included: a width is x2 - x1 + 1.

The model card of SSH contradicts that source in two places: deltas are (dx, dy, dw, dh), not (dx, dy, dh, dw), and
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
    """The anchors of one stride, and the names of the tensors with their scores, box deltas and landmarks.

    A square of `base_size` gives one anchor for each ratio (height / width) and scale. For A anchors, `scores` is
    [N, 2A, H, W]: A channels of background, then A of the object. `boxes` is [N, 4A, H, W].
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
        """The names of its tensors, in the network's order."""
        return tuple(filter(None, (self.scores, self.boxes, self.landmarks)))

    @property
    def sizes(self) -> tuple[tuple[float, float], ...]:
        """The width and height of each anchor, in the order of the channels. Upstream rounds before it scales."""
        widths = [float(round(math.sqrt(self.base_size**2 / ratio))) for ratio in self.ratios]
        return tuple(
            (width * scale, round(width * ratio) * scale)
            for width, ratio in zip(widths, self.ratios, strict=True)
            for scale in self.scales
        )

    @property
    def centre(self) -> float:
        """The distance of the anchors' centres from the upper left corner of their cell, in x and y, in pixels."""
        return (self.base_size - 1) / 2

    def anchors(self, height: int, width: int) -> Floats:
        """Return the anchor boxes of `height` x `width` cells: float32 [height * width * A, 4], row by row."""
        return self._anchors_at(*np.divmod(np.arange(height * width * len(self.sizes)), len(self.sizes)), width)

    def decode(self, outputs: Outputs, indices: Indices) -> Detections:
        """Apply the deltas to the anchors with these indices [K] of one image, without clipping.

        `outputs` are the tensors of the image, without the batch axis. The result has their precision.
        """
        height, width = outputs[self.boxes].shape[1:]
        cells, shapes = np.divmod(indices, len(self.sizes))
        first = 4 * shapes * (height * width) + cells
        # Gathered as [4, K] and transposed, so that the arithmetic runs along memory.
        deltas = outputs[self.boxes].reshape(-1)[first + np.arange(4)[:, None] * (height * width)].T
        boxes = apply_deltas(self._anchors_at(cells, shapes, width), deltas)
        return Detections(boxes, self.scores_of(outputs)[indices])

    def scores_of(self, outputs: Outputs) -> Array:
        """Return the score of every anchor of one image, without the batch axis: [H * W * A], row by row."""
        scores: Array = outputs[self.scores][len(self.sizes) :].transpose(1, 2, 0).reshape(-1)
        return scores

    def _anchors_at(self, cells: Indices, shapes: Indices, width: int) -> Floats:
        """Return anchors [K, 4] by the index of the cell [K] (row by row, `width` cells a row) and of `sizes` [K]."""
        reach = (np.array(self.sizes).T - 1) / 2
        base = np.concatenate([self.centre - reach, self.centre + reach])
        rows, columns = np.divmod(cells, width) * np.array(self.stride)
        boxes: Floats = (base[:, shapes] + [columns, rows, columns, rows]).astype(np.float32).T
        return boxes


def apply_deltas(boxes: Floats, deltas: Array) -> Array:
    """Move and resize `boxes` [K, 4] by `deltas` [K, 4]: (dx, dy) in box sizes, (dw, dh) in logarithms."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + 0.5 * (sizes - 1)
    largest = np.finfo(deltas.dtype).max
    with np.errstate(over="ignore"):  # untrained heads predict infinite boxes, which are later clipped to the image
        centres = np.clip(deltas[:, :2] * sizes + centres, -largest, largest)  # because inf - inf is NaN
        reach = 0.5 * (np.exp(deltas[:, 2:]) * sizes - 1)
        return np.concatenate([centres - reach, centres + reach], axis=1)


def highest(scores: Array, count: int | None) -> Indices:
    """Return the ascending indices of the `count` highest `scores` [K], which hold no NaN. The first of equals win."""
    if count is None or len(scores) <= count:
        return np.arange(len(scores))
    least = np.partition(scores, -count)[-count]
    selected = scores > least
    equal = np.flatnonzero(scores == least)
    selected[equal[: count - np.count_nonzero(selected)]] = True
    return np.flatnonzero(selected)
