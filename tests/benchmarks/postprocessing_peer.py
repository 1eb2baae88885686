"""Upstream's post-processing in NumPy, written as its rules read, without any thought of speed: a peer, and an oracle.

All anchors are decoded and clipped, of each stride the best are kept, all are ordered and suppressed box by box, and
low scores are dropped at the end. It shares nothing with `sshconvert.tasks.anchor_detection`, but takes the same steps
in the same precision, so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead

Heads = Mapping[str, npt.NDArray[np.float32]]
Rows = npt.NDArray[np.float32]


def detect_plainly(outputs: Heads, image_size: tuple[int, int], rules: AnchorDetection) -> list[Rows]:
    """As `AnchorDetection.decode`: the faces of each image, float32 [K, 5], best first."""
    number = len(outputs[rules.heads[0].scores])
    return [
        _detect_in_one({name: outputs[name][index] for name in outputs}, image_size, rules) for index in range(number)
    ]


def _detect_in_one(outputs: Heads, image_size: tuple[int, int], rules: AnchorDetection) -> Rows:
    found = []
    for head in rules.heads:
        boxes = _clipped(_decoded(outputs[head.boxes], head), image_size)
        scores = outputs[head.scores][len(head.scales) :].transpose(1, 2, 0).reshape(-1, 1)
        rows = np.concatenate([boxes, scores], axis=1)
        found.append(_ordered(rows)[: rules.candidates_per_stride])
    ordered = _ordered(np.concatenate(found))
    kept = ordered[survivors(ordered[:, :4], rules.iou_threshold)]
    return kept[kept[:, 4] >= rules.score_threshold]


def _decoded(deltas: Rows, head: AnchorHead) -> Rows:
    count = len(head.scales)
    height, width = deltas.shape[1:]
    deltas = deltas.reshape(count, 4, height, width).transpose(2, 3, 0, 1).reshape(-1, 4)
    anchors = _anchors(head, height, width)
    sizes = anchors[:, 2:] - anchors[:, :2] + 1
    centres = deltas[:, :2] * sizes + (anchors[:, :2] + 0.5 * (sizes - 1))
    with np.errstate(over="ignore"):
        reach = 0.5 * (np.exp(deltas[:, 2:]) * sizes - 1)
    return np.concatenate([centres - reach, centres + reach], axis=1)


def _anchors(head: AnchorHead, height: int, width: int) -> Rows:
    centre = (head.base_size - 1) / 2
    squares = [
        [centre - reach, centre - reach, centre + reach, centre + reach]
        for reach in ((head.base_size * scale - 1) / 2 for scale in head.scales)
    ]
    columns, rows = np.meshgrid(np.arange(width) * head.stride, np.arange(height) * head.stride)
    shifts = np.stack([columns, rows, columns, rows], axis=-1)
    return np.asarray((shifts[:, :, None] + np.array(squares)).reshape(-1, 4), np.float32)


def _clipped(boxes: Rows, image_size: tuple[int, int]) -> Rows:
    height, width = image_size
    boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, width - 1)
    boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, height - 1)
    return boxes


def _ordered(rows: Rows) -> Rows:
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def survivors(boxes: npt.NDArray[Any], iou_threshold: float, *, inclusive: bool = True) -> list[int]:
    """As `sshconvert.tasks.anchor_detection.suppress`: numbers of the boxes [K, 4], best first, that stay."""
    too_much = np.greater_equal if inclusive else np.greater
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order, kept = np.arange(len(boxes)), []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.maximum(0, np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1)
        height = np.maximum(0, np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1)
        shared = width * height
        with np.errstate(invalid="ignore"):  # of two empty boxes
            overlap: npt.NDArray[Any] = shared / (areas[best] + areas[rest] - shared)
        order = rest[~too_much(overlap, iou_threshold)]
    return kept
