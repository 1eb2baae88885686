"""Comparison of two runs: tensor by tensor, and detection by detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshtool.evaluate.average_precision import Boxes, overlaps

# Two detections are the same when they overlap at least so much. A converted model moves corners by a fraction of a
# pixel; a smaller overlap means another box.
SAME_BOX_IOU: Final = 0.9


@dataclass(frozen=True)
class TensorDifference:
    """How far one output is from the reference, absolutely; None where it is missing, misshapen or not finite."""

    output: str
    largest: float | None
    mean: float | None


@dataclass(frozen=True)
class DetectionMatch:
    """How many detections two runs share, and how many only one of them has."""

    matched: int
    missing: int
    extra: int


def compare_tensors(
    reference: Mapping[str, npt.NDArray[Any]], candidate: Mapping[str, npt.NDArray[Any]]
) -> tuple[TensorDifference, ...]:
    """Differences of every output, in the reference's order."""
    differences = []
    for name, expected in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != expected.shape or not np.isfinite(found).all():
            differences.append(TensorDifference(name, None, None))
            continue
        distance = np.abs(expected.astype(np.float64) - found)
        differences.append(TensorDifference(name, float(distance.max()), float(distance.mean())))
    return tuple(differences)


def match_detections(reference: Boxes, candidate: Boxes) -> DetectionMatch:
    """Pair detections [K, 5] one to one, best score first, by at least `SAME_BOX_IOU`."""
    table = overlaps(candidate, reference)
    matched = 0
    for row in table:
        best = int(np.argmax(row)) if row.size else 0
        if row.size and row[best] >= SAME_BOX_IOU:
            matched += 1
            table[:, best] = 0  # taken
    return DetectionMatch(matched, len(reference) - matched, len(candidate) - matched)
