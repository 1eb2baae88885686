"""Overlap and suppression of boxes.

A box is (x1, y1, x2, y2) in pixels, with the corner pixels included: a width is x2 - x1 + 1. Boxes are float [K, 4];
further columns are ignored.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Flags, Indices

# Boxes that are compared with all others at a time. Fewer cost more calls; more, pairs that better boxes have settled.
BLOCK: Final = 64


def overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of every pair, [K, M]; zero for boxes without extent.

    The result has the precision of the boxes.
    """
    first, second = _ends_and_areas(boxes), _ends_and_areas(others)
    room = np.empty(4 * len(boxes) * len(others), np.result_type(first, second))
    found = _overlaps(first, second, room)
    return np.where(found > 0, found, 0)


def suppress(boxes: Array, iou_threshold: float, *, inclusive: bool = True) -> Indices:
    """Suppress boxes that overlap a better one: greedy non-maximum suppression.

    Args:
        boxes: best first.
        iou_threshold: above 0. A box goes if its overlap with a better box that stays is at least this.
        inclusive: False if a box at the threshold stays.

    Returns:
        The ascending indices of the boxes that stay.

    """
    too_much = np.greater_equal if inclusive else np.greater
    numbers, rest = np.arange(len(boxes)), _ends_and_areas(boxes)
    # One buffer for all blocks: allocating memory costs as much as computing in it.
    room = np.empty(4 * BLOCK * len(boxes), np.result_type(boxes, np.float16))
    kept = [numbers[:0]]
    # Earlier blocks have removed their boxes from this one, so only boxes of the same block compete in it.
    while numbers.size:
        block = rest[:, :BLOCK]
        stay = _independent(too_much(_overlaps(block, block, room), iou_threshold))
        kept.append(numbers[stay])
        numbers, rest = numbers[BLOCK:], rest[:, BLOCK:]
        gone = too_much(_overlaps(block[:, stay], rest, room), iou_threshold).any(axis=0)
        open_ones = np.flatnonzero(~gone)
        numbers, rest = numbers[open_ones], rest.take(open_ones, axis=1)
    return np.concatenate(kept)


def _ends_and_areas(boxes: Array) -> Array:
    """Boxes as rows x2, y2, -x1, -y1 and area, [5, K]: an intersection ends at the lesser of two ends."""
    x1, y1, x2, y2 = boxes.T[:4]
    return np.stack([x2, y2, -x1, -y1, (x2 - x1 + 1) * (y2 - y1 + 1)])


def _overlaps(boxes: Array, others: Array, room: Array) -> Array:
    """Intersections over unions, [K, L], of `_ends_and_areas` [5, K] and [5, L], in the buffer `room`.

    The next call overwrites the result. Two boxes without extent give NaN.
    """
    shape = (4, boxes.shape[1], others.shape[1])
    ends = room[: math.prod(shape)].reshape(shape)
    sides, unions = ends[:2], ends[2]
    with np.errstate(all="ignore"):
        np.minimum(boxes[:4, :, None], others[:4, None], out=ends)
        np.add(sides, ends[2:], out=sides)
        np.add(sides, 1, out=sides)
        np.maximum(sides, 0, out=sides)
        width, height = sides
        intersections = np.multiply(width, height, out=width)
        np.add(boxes[4, :, None], others[4], out=unions)
        np.subtract(unions, intersections, out=unions)
        overlaps: Array = np.divide(intersections, unions, out=unions)
    return overlaps


def _independent(related: Flags) -> list[int]:
    """Indices of the entries of `related` [K, K] that relate to no earlier one that stays."""
    rows = np.packbits(related, axis=1, bitorder="little")
    stay, gone = [], 0
    for number, row in enumerate(rows):
        if not gone >> number & 1:
            stay.append(number)
            gone |= int.from_bytes(row.tobytes(), "little")
    return stay
