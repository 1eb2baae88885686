"""Post-processing as one writes it from upstream's description, with numpy and no further thought: the peer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sshconvert.models import Detection

Floats = npt.NDArray[Any]


def plain_detect(outputs: Mapping[str, Floats], size: tuple[int, int], rules: Detection) -> Floats:
    """Faces of one image: [K, 5], best first."""
    found = []
    for head in rules.heads:
        scores, deltas = outputs[head.scores], outputs[head.deltas]
        count, (height, width) = len(head.scales), scores.shape[2:]
        boxes = decode(
            all_anchors(head.stride, head.scales, height, width), deltas.transpose(0, 2, 3, 1).reshape(-1, 4)
        )
        boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, size[1] - 1)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, size[0] - 1)
        faces = scores[:, count:].transpose(0, 2, 3, 1).reshape(-1, 1)
        order = np.argsort(-faces[:, 0], kind="stable")[: rules.candidates_per_stride]
        found.append(np.hstack([boxes[order], faces[order]]))
    boxes = np.vstack(found)
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    boxes = boxes[suppress(boxes, rules.iou_threshold)]
    return np.asarray(boxes[boxes[:, 4] >= rules.score_threshold])


def all_anchors(stride: int, scales: tuple[int, ...], height: int, width: int) -> Floats:
    base = []
    for scale in scales:
        side = 16 * scale
        base.append([7.5 - (side - 1) / 2, 7.5 - (side - 1) / 2, 7.5 + (side - 1) / 2, 7.5 + (side - 1) / 2])
    x, y = np.meshgrid(np.arange(width) * stride, np.arange(height) * stride)
    shifts = np.vstack([x.ravel(), y.ravel(), x.ravel(), y.ravel()]).T
    return np.asarray(shifts[:, None, :] + np.array(base)[None]).reshape(-1, 4)


def decode(anchors: Floats, deltas: Floats) -> Floats:
    widths = anchors[:, 2] - anchors[:, 0] + 1
    heights = anchors[:, 3] - anchors[:, 1] + 1
    x = anchors[:, 0] + 0.5 * (widths - 1) + deltas[:, 0] * widths
    y = anchors[:, 1] + 0.5 * (heights - 1) + deltas[:, 1] * heights
    widths = np.exp(deltas[:, 2]) * widths
    heights = np.exp(deltas[:, 3]) * heights
    corners = (x - 0.5 * (widths - 1), y - 0.5 * (heights - 1), x + 0.5 * (widths - 1), y + 0.5 * (heights - 1))
    return np.stack(corners, axis=1)


def suppress(boxes: Floats, threshold: float) -> list[int]:
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order = np.arange(len(boxes))
    kept = []
    while order.size > 0:
        best = order[0]
        kept.append(int(best))
        left = np.maximum(boxes[best, 0], boxes[order[1:], 0])
        top = np.maximum(boxes[best, 1], boxes[order[1:], 1])
        right = np.minimum(boxes[best, 2], boxes[order[1:], 2])
        bottom = np.minimum(boxes[best, 3], boxes[order[1:], 3])
        common = np.maximum(0, right - left + 1) * np.maximum(0, bottom - top + 1)
        overlap = common / (areas[best] + areas[order[1:]] - common)
        order = order[1:][overlap < threshold]
    return kept
