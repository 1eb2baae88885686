"""Anchors, and the boxes, landmarks and attributes that a head predicts from them.

The rules come from mxnet-SSH's `generate_anchors` and `bbox_pred`, and from InsightFace's `landmark_pred` and
`RetinaFaceCoV.detect`. Boxes are (x1, y1, x2, y2) in pixels of the network's input, with the corner pixels included: a
width is x2 - x1 + 1.

The model card of SSH contradicts that source in two places: deltas are (dx, dy, dw, dh), not (dx, dy, dh, dw), and
(dx, dy) moves the centre of the box, not its upper left corner.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import numpy as np
import pydantic

from sshconvert.arrays import Array, Floats, Indices
from sshconvert.schema import Dimension, Strict, TensorName
from sshconvert.tasks.faults import Outputs
from sshconvert.tasks.results import Detections

Ratio = Annotated[float, pydantic.Field(gt=0, le=100)]
PLAIN: Final = (1.0, 1.0, 1.0, 1.0)  # standard deviations of deltas that are used as they are

Deviation = Annotated[float, pydantic.Field(gt=0, le=100)]
AttributeName = Annotated[str, pydantic.StringConstraints(pattern=r"^([a-z][a-z0-9_]*)?$", max_length=40)]


class AttributeBlocks(Strict):
    """A tensor with attributes of each anchor: [N, BA, H, W] for B blocks of A channels, one channel an anchor.

    `blocks` names the attribute of each block, "" for a block that is no attribute.
    """

    tensor: TensorName
    blocks: tuple[AttributeName, ...] = pydantic.Field(min_length=1, max_length=100)

    @pydantic.model_validator(mode="after")
    def _has_names(self) -> AttributeBlocks:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError("blocks needs one or more names, all different")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the attributes, in the order of the blocks."""
        return tuple(filter(None, self.blocks))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each attribute's block."""
        return tuple(number for number, name in enumerate(self.blocks) if name)


class AnchorHead(Strict):
    """The anchors of one stride, and the names of the tensors with their scores, box deltas, landmarks and attributes.

    A square of `base_size` gives one anchor for each ratio (height / width) and scale. For A anchors, `scores` is
    [N, 2A, H, W]: A channels of background, then A of the object. `boxes` is [N, 4A, H, W]. `landmarks` is
    [N, 2PA, H, W]: x and y of the P `points` of each anchor. Deltas are multiplied by their standard deviations:
    `box_std` for dx, dy, dw and dh, `landmark_std` for all coordinates of landmarks.
    """

    stride: Dimension
    base_size: Dimension = 16
    scales: tuple[Dimension, ...] = pydantic.Field(min_length=1)
    ratios: tuple[Ratio, ...] = pydantic.Field(default=(1.0,), min_length=1)
    scores: TensorName
    boxes: TensorName
    landmarks: TensorName | None = None
    attributes: AttributeBlocks | None = None
    points: Annotated[int, pydantic.Field(ge=1, le=1000)] = 5
    box_std: tuple[Deviation, Deviation, Deviation, Deviation] = PLAIN
    landmark_std: Deviation = 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its tensors, in the network's order."""
        return tuple(name for name, _ in self.tensors)

    @property
    def tensors(self) -> tuple[tuple[str, int], ...]:
        """The name of each tensor and its number of channels for an anchor, in the network's order."""
        tensors = [(self.scores, 2), (self.boxes, 4)]
        if self.landmarks:
            tensors.append((self.landmarks, 2 * self.points))
        if self.attributes:
            tensors.append((self.attributes.tensor, len(self.attributes.blocks)))
        return tuple(tensors)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The names of the attributes, in the order of `Detections.attributes`."""
        return self.attributes.names if self.attributes else ()

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
        *_, width = outputs[self.boxes].shape
        cells, shapes = np.divmod(indices, len(self.sizes))
        anchors = self._anchors_at(cells, shapes, width)
        deltas = _gather(outputs[self.boxes], 4 * shapes + np.arange(4)[:, None], cells)
        if self.box_std != PLAIN:
            deltas = deltas * np.array(self.box_std, deltas.dtype)
        return Detections(
            apply_deltas(anchors, deltas),
            self.scores_of(outputs)[indices],
            landmarks=self._landmarks(outputs, anchors, cells, shapes),
            attributes=self._attributes(outputs, cells, shapes),
        )

    def scores_of(self, outputs: Outputs) -> Array:
        """Return the score of every anchor of one image, without the batch axis: [H * W * A], row by row."""
        scores: Array = outputs[self.scores][len(self.sizes) :].transpose(1, 2, 0).reshape(-1)
        return scores

    def _landmarks(self, outputs: Outputs, anchors: Floats, cells: Indices, shapes: Indices) -> Array | None:
        """Return the landmarks [K, P, 2] of anchors [K, 4] by cell and shape, as `_anchors_at` takes them."""
        if self.landmarks is None:
            return None
        channels = np.arange(2 * self.points)[:, None]
        deltas = _gather(outputs[self.landmarks], 2 * self.points * shapes + channels, cells)
        return move_points(anchors, deltas.reshape(-1, self.points, 2) * deltas.dtype.type(self.landmark_std))

    def _attributes(self, outputs: Outputs, cells: Indices, shapes: Indices) -> Array | None:
        """Return the attributes [K, A] of anchors by cell and shape."""
        if self.attributes is None:
            return None
        blocks = np.array(self.attributes.numbers)[:, None]
        return _gather(outputs[self.attributes.tensor], len(self.sizes) * blocks + shapes, cells)

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


def move_points(boxes: Floats, deltas: Array) -> Array:
    """Return points [K, P, 2]: the centres of `boxes` [K, 4], moved by `deltas` [K, P, 2] in box sizes."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + 0.5 * (sizes - 1)
    with np.errstate(over="ignore"):  # as in `apply_deltas`
        points: Array = deltas * sizes[:, None] + centres[:, None]
    return points


def _gather(tensor: Array, channels: Indices, cells: Indices) -> Array:
    """Return the values [K, C] of a tensor [..., H, W] in channels [C, K] and cells [K], which count row by row."""
    area = tensor.shape[-2] * tensor.shape[-1]
    # Gathered as [C, K] and transposed, so that the arithmetic runs along memory.
    values: Array = tensor.reshape(-1)[channels * area + cells].T
    return values


def highest(scores: Array, count: int | None) -> Indices:
    """Return the ascending indices of the `count` highest `scores` [K], which hold no NaN. The first of equals win."""
    if count is None or len(scores) <= count:
        return np.arange(len(scores))
    least = np.partition(scores, -count)[-count]
    selected = scores > least
    equal = np.flatnonzero(scores == least)
    selected[equal[: count - np.count_nonzero(selected)]] = True
    return np.flatnonzero(selected)
