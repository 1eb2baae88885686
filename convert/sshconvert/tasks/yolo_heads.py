"""Heads of YOLOv3, and the boxes that they predict.

The rules come from GluonCV's `YOLOOutputV3`, and Open Model Zoo's adapter `yolo_v3` repeats them. A head has A anchors
at each cell, and 5 + C channels for each anchor in this order: x, y, w, h, objectness and the C classes. With the
sigmoid s, the cell's column and row, and an anchor's width and height in pixels of the network's input:

- the centre of a box is (s(x) + column, s(y) + row) times the stride
- its size is exp(w) times the anchor's width, and exp(h) times its height
- its score for a class is s(class) times s(objectness)

Boxes are (x1, y1, x2, y2), centre minus and plus half of the size. They do not include corner pixels: a width is
x2 - x1.
"""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
import pydantic

from sshconvert.arrays import Array, Indices
from sshconvert.schema import Dimension, Strict, TensorName
from sshconvert.tasks.faults import Outputs
from sshconvert.tasks.results import Detections

BOX: Final = 4  # x, y, w, h
OBJECTNESS: Final = 4  # the number of its channel
CLASSES: Final = 5  # the number of the first class's channel

Anchor = Annotated[tuple[Dimension, Dimension], pydantic.Field(description="width and height in pixels")]


class YoloHead(Strict):
    """The tensor of one stride, and the width and height of its anchors in pixels, in the order of the channels.

    For A anchors and C classes, `output` is [N, A * (5 + C), H, W], before any sigmoid.
    """

    stride: Dimension
    anchors: tuple[Anchor, ...] = pydantic.Field(min_length=1)
    output: TensorName

    def scores_of(self, outputs: Outputs) -> Array:
        """Return every score of one image, without the batch axis: [C * H * W * A], by class, row, column, anchor."""
        channels = self._by_anchor(outputs)
        scores = sigmoid(channels[:, CLASSES:]) * sigmoid(channels[:, OBJECTNESS : OBJECTNESS + 1])
        return np.asarray(scores.transpose(1, 2, 0)).reshape(-1)

    def decode(self, outputs: Outputs, indices: Indices, scores: Array) -> Detections:
        """Return the candidates with these indices [K] of `scores_of` one image, without clipping.

        The result has the precision of the outputs.
        """
        channels = self._by_anchor(outputs)
        classes, places = np.divmod(indices, channels.shape[0] * channels.shape[2])
        cells, numbers = np.divmod(places, len(self.anchors))
        rows, columns = np.divmod(cells, outputs[self.output].shape[-1])
        values = channels[numbers, :BOX, cells]
        dtype = values.dtype
        places = np.stack([columns, rows], axis=1).astype(dtype)
        centres = (sigmoid(values[:, :2]) + places) * dtype.type(self.stride)
        with np.errstate(over="ignore"):  # untrained heads predict infinite boxes, which are later clipped to the image
            reach = np.exp(values[:, 2:]) * np.array(self.anchors, dtype)[numbers] / 2
        boxes = np.concatenate([centres - reach, centres + reach], axis=1)
        several = channels.shape[1] > CLASSES + 1
        return Detections(boxes, scores[indices], class_ids=classes if several else None)

    def _by_anchor(self, outputs: Outputs) -> Array:
        """Return the tensor of one image as [A, 5 + C, H * W]."""
        tensor = outputs[self.output]
        cells = tensor.shape[1] * tensor.shape[2]
        return tensor.reshape(len(self.anchors), -1, cells)


def sigmoid(values: Array) -> Array:
    """Return 1 / (1 + exp(-x)) of each value in its precision."""
    with np.errstate(over="ignore"):  # exp is infinite, and the result 0
        return np.asarray(1 / (1 + np.exp(-values)))
