"""Overlap and suppression of boxes.

A box is (x1, y1, x2, y2) in pixels: its width is x2 - x1 + `last_pixel`. That is 1 for boxes that include their corner
pixels, and 0 for boxes whose corners are points. Boxes are float [K, 4]; further columns are ignored.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Flags, Indices

# Boxes per comparison with all others. A smaller block costs calls, a larger one needless pairs of suppressed boxes.
BLOCK: Final = 64


def overlaps(boxes: Array, others: Array, last_pixel: int = 1) -> Array:
    """Return the intersection over union of every pair, [K, M], in the precision of the boxes.

    Boxes without extent overlap by 0.
    """
    first, second = _ends_and_areas(boxes, last_pixel), _ends_and_areas(others, last_pixel)
    buffer = np.empty(4 * len(boxes) * len(others), np.result_type(first, second))
    ratios = _overlaps(first, second, buffer, last_pixel)
    return np.where(ratios > 0, ratios, 0)


def suppress(boxes: Array, iou_threshold: float, *, inclusive: bool = True, last_pixel: int = 1) -> Indices:
    """Suppress boxes that overlap a better one: greedy non-maximum suppression.

    Args:
        boxes: best first.
        iou_threshold: above 0. A box is removed if its overlap with a better box that stays is at least this.
        inclusive: False keeps a box whose overlap equals the threshold.
        last_pixel: 1 if boxes include their corner pixels, otherwise 0.

    Returns:
        The ascending indices of the boxes that stay.

    """
    exceeds = np.greater_equal if inclusive else np.greater
    indices, candidates = np.arange(len(boxes)), _ends_and_areas(boxes, last_pixel)
    # One buffer for all blocks: allocating memory costs as much as computing in it.
    buffer = np.empty(4 * BLOCK * len(boxes), np.result_type(boxes, np.float16))
    kept = [indices[:0]]
    # Earlier blocks have removed the boxes that they suppress, so only boxes of one block compete in it.
    while indices.size:
        block = candidates[:, :BLOCK]
        stay = _independent(exceeds(_overlaps(block, block, buffer, last_pixel), iou_threshold))
        kept.append(indices[stay])
        indices, candidates = indices[BLOCK:], candidates[:, BLOCK:]
        ratios = _overlaps(block[:, stay], candidates, buffer, last_pixel)
        suppressed = exceeds(ratios, iou_threshold).any(axis=0)
        remaining = np.flatnonzero(~suppressed)
        indices, candidates = indices[remaining], candidates.take(remaining, axis=1)
    return np.concatenate(kept)


def _ends_and_areas(boxes: Array, last_pixel: int) -> Array:
    """Return the rows x2, y2, -x1, -y1 and area, [5, K]: each end of an intersection is a minimum of two ends."""
    x1, y1, x2, y2 = boxes.T[:4]
    return np.stack([x2, y2, -x1, -y1, (x2 - x1 + last_pixel) * (y2 - y1 + last_pixel)])


def _overlaps(boxes: Array, others: Array, buffer: Array, last_pixel: int) -> Array:
    """Return intersections over unions, [K, L], of `_ends_and_areas` [5, K] and [5, L], as a view of `buffer`.

    Two boxes without extent give NaN.
    """
    shape = (4, boxes.shape[1], others.shape[1])
    ends = buffer[: math.prod(shape)].reshape(shape)
    sides, unions = ends[:2], ends[2]
    with np.errstate(all="ignore"):
        np.minimum(boxes[:4, :, None], others[:4, None], out=ends)
        np.add(sides, ends[2:], out=sides)
        np.add(sides, last_pixel, out=sides)
        np.maximum(sides, 0, out=sides)
        width, height = sides
        intersections = np.multiply(width, height, out=width)
        np.add(boxes[4, :, None], others[4], out=unions)
        np.subtract(unions, intersections, out=unions)
        overlaps: Array = np.divide(intersections, unions, out=unions)
    return overlaps


def _independent(related: Flags) -> list[int]:
    """Return the greedy selection of indices that are not `related` [K, K] to an earlier selected one."""
    rows = np.packbits(related, axis=1, bitorder="little")
    selected, excluded = [], 0
    for index, row in enumerate(rows):
        if not excluded >> index & 1:
            selected.append(index)
            excluded |= int.from_bytes(row.tobytes(), "little")
    return selected
