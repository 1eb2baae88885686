"""What both protocols share in holding an image's predictions to its faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from sshtool.evaluate.average_precision import overlaps
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, NEITHER

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

# A prediction is on a face from this overlap on, in both protocols.
ON_FACE: Final = 0.5

# The number of no face.
NOWHERE: Final = -1

# Overlaps computed at once: bounds memory, whatever the number of predictions.
_LARGEST_TABLE: Final = 1 << 20


def corners(boxes: Floats) -> Floats:
    """From x, y, w, h to x1, y1, x2, y2 by x2 = x + w and y2 = y + h, [K, 4] both."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def best_face(predictions: Floats, faces: Floats, measure: Callable[[Floats, Floats], Floats] = overlaps) -> Numbers:
    """For each of `predictions` [K, 4] the number of the face [F, 4] that it overlaps most, the first of equals.

    `NOWHERE` if that overlap, by `measure`, is less than `ON_FACE`.
    """
    best = np.full(len(predictions), NOWHERE, np.intp)
    if not len(faces):
        return best
    rows = max(1, _LARGEST_TABLE // len(faces))
    for start in range(0, len(predictions), rows):
        table = measure(predictions[start : start + rows], faces)
        number = np.argmax(table, axis=1)
        on_face = table[np.arange(len(table)), number] >= ON_FACE
        best[start : start + rows] = np.where(on_face, number, NOWHERE)
    return best


def first_on_its_face(matches: Numbers, scores: Floats) -> npt.NDArray[np.bool_]:
    """For each of `matches` [K], whether no prediction of a higher score, or an equal one before it, has its face."""
    order = np.argsort(-scores, kind="stable")
    first = np.zeros(len(matches), bool)
    first[order[np.unique(matches[order], return_index=True)[1]]] = True
    return np.asarray(first & (matches != NOWHERE))


def letters(false: npt.NDArray[np.bool_], neither: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_]) -> str:
    """Outcomes of predictions, as `records` writes them. What is not false nor neither is a hit or a duplicate."""
    return "".join(np.select([false, neither, first], [FALSE, NEITHER, HIT], DUPLICATE).tolist())
