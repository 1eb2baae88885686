"""From head tensors to faces: anchors, box deltas and non-maximum suppression, as upstream computes them.

This is the reference that every format is held to. Source of the rules: mxnet-SSH's `SSHDetector.detect` and its
`generate_anchors`, `bbox_pred` and NMS. Boxes are (x1, y1, x2, y2) in pixels of the network's input, with the corner
pixels included: a width is x2 - x1 + 1.

The model card is wrong in two places against that source: deltas are (dx, dy, dw, dh), not (dx, dy, dh, dw), and
(dx, dy) moves the centre of the box, not its upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sshconvert.errors import DetectionError
from sshconvert.models import Detection, Head

Floats = npt.NDArray[np.float32]


def detect(outputs: Mapping[str, npt.NDArray[Any]], image_size: tuple[int, int], rules: Detection) -> list[Floats]:
    """Faces of each image of a batch.

    `outputs` are the head tensors by name: scores float32 [N, 2A, H, W] (background of each anchor, then face of
    each), deltas float32 [N, 4A, H, W]. `image_size` is the (height, width) of the network's input.

    Returns, for each image, float32 [K, 5]: x1, y1, x2, y2, score, highest score first. Raises DetectionError if a
    tensor is missing or has a shape that does not belong to `rules`.
    """
    return [select(found, rules) for found in candidates(outputs, image_size, rules)]


def candidates(outputs: Mapping[str, npt.NDArray[Any]], image_size: tuple[int, int], rules: Detection) -> list[Floats]:
    """What `detect` selects from, for the same arguments: of each stride the boxes with the highest scores, clipped."""
    images = [{name: outputs[name][index] for name in _names(rules)} for index in range(batch_size(outputs, rules))]
    return [np.concatenate([_candidates(image, head, image_size, rules) for head in rules.heads]) for image in images]


def select(boxes: Floats, rules: Detection) -> Floats:
    """The faces among candidates [K, 5], of one image but perhaps of several scales; best first."""
    # Dropping low scores before the suppression instead of after it changes nothing: they suppress only lower ones.
    boxes = best_first(boxes[boxes[:, 4] >= rules.score_threshold])
    return boxes[suppress(boxes[:, :4], rules.iou_threshold)]


def batch_size(outputs: Mapping[str, npt.NDArray[Any]], rules: Detection) -> int:
    """How many images the head tensors are of.

    Raises DetectionError if a tensor is missing or has a shape that does not belong to `rules`.
    """
    missing = [name for name in _names(rules) if name not in outputs]
    if missing:
        raise DetectionError(f"the outputs {', '.join(missing)} are missing; give all of {', '.join(_names(rules))}")
    batch = outputs[_names(rules)[0]].shape[:1]
    for head in rules.heads:
        cells = outputs[head.scores].shape[2:]
        for name, channels in ((head.scores, 2), (head.deltas, 4)):
            expected = (*batch, channels * len(head.scales), *cells)
            if len(expected) != 4 or outputs[name].shape != expected:
                raise DetectionError(
                    f"{name} has shape {outputs[name].shape}, expected {expected}: [N, {channels}A, H, W]"
                )
    return int(batch[0])


def anchors(head: Head, height: int, width: int, base_size: int) -> Floats:
    """Anchor boxes of a head over its `height` x `width` cells: float32 [height * width * A, 4], row by row."""
    centre = (base_size - 1) / 2
    reach = np.array([(base_size * scale - 1) / 2 for scale in head.scales])
    base = np.stack([centre - reach, centre - reach, centre + reach, centre + reach], axis=1)
    rows, columns = np.mgrid[:height, :width] * head.stride
    shifts = np.stack([columns, rows, columns, rows], axis=-1).reshape(-1, 1, 4)
    return np.asarray((shifts + base).reshape(-1, 4), np.float32)


def apply_deltas(boxes: Floats, deltas: Floats) -> Floats:
    """Move and resize `boxes` [K, 4] by `deltas` [K, 4]: (dx, dy) in box sizes, (dw, dh) in logarithms."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + 0.5 * (sizes - 1)
    centres = deltas[:, :2] * sizes + centres
    with np.errstate(over="ignore"):  # untrained heads ask for boxes of infinite size; clipping makes them the image
        reach = 0.5 * (np.exp(deltas[:, 2:]) * sizes - 1)
    return np.concatenate([centres - reach, centres + reach], axis=1)


def decode(outputs: Mapping[str, npt.NDArray[Any]], head: Head, rules: Detection) -> npt.NDArray[Any]:
    """Every anchor of a head moved by its deltas, with its score, for one image: [H * W * A, 5], row by row.

    `outputs` are the head tensors of the image, without the batch: [2A, H, W] and [4A, H, W]. The result has their
    precision, and nothing in it is clipped.
    """
    count = len(head.scales)
    scores = outputs[head.scores][count:].transpose(1, 2, 0).reshape(-1, 1)
    deltas = outputs[head.deltas]
    height, width = deltas.shape[1:]
    deltas = deltas.reshape(count, 4, height, width).transpose(2, 3, 0, 1).reshape(-1, 4)
    boxes = apply_deltas(anchors(head, height, width, rules.base_size), deltas)
    return np.concatenate([boxes, scores], axis=1)


def clip(boxes: Floats, image_size: tuple[int, int]) -> Floats:
    """Move corners outside the image to its border pixels."""
    height, width = image_size
    limits = np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype)
    return np.clip(boxes, 0, limits)


def best_first(candidates: Floats) -> Floats:
    """Candidates [K, 5] ordered by score, highest first; equals keep their order."""
    return candidates[np.argsort(-candidates[:, 4], kind="stable")]


def suppress(boxes: npt.NDArray[Any], iou_threshold: float, *, inclusive: bool = True) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression of `boxes` [K, 4], best first: numbers of those that stay.

    A box goes when its intersection over union with a better box that stays is at least `iou_threshold`, or, if that
    is not `inclusive`, more.
    """
    too_much = np.greater_equal if inclusive else np.greater
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = np.arange(len(boxes))
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):  # two empty boxes have no overlap to speak of, and both stay
            iou = intersection / (areas[best] + areas[rest] - intersection)
        order = rest[~too_much(iou, iou_threshold)]
    return np.array(kept, np.intp)


def _candidates(
    outputs: Mapping[str, npt.NDArray[Any]], head: Head, image_size: tuple[int, int], rules: Detection
) -> Floats:
    found = decode(outputs, head, rules)
    found[:, :4] = clip(found[:, :4], image_size)
    return best_first(found)[: rules.candidates_per_stride]


def _names(rules: Detection) -> list[str]:
    return [name for head in rules.heads for name in (head.scores, head.deltas)]
