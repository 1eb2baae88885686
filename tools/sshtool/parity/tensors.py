"""Comparison of one output tensor with the original's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.tasks.tolerances import Tolerance

# Upper edges of the histogram of absolute differences: below 1e-9, then a decade each, the last without an end.
DECADES: Final = tuple(10.0**exponent for exponent in range(-9, 1))


@dataclass(frozen=True)
class TensorComparison:
    """How far one output is from the original's, in absolute terms where nothing else is said.

    `problem` says why it cannot be compared (missing, another shape or type, not finite); then the figures are None.
    `relative` is the largest difference over the range of the expected values, `required_atol` the smallest absolute
    tolerance that would pass beside the same `rtol`, `first_beyond` the first position, in C order, that is out of
    tolerance. `histogram` counts elements by the decade of their difference (`DECADES`).
    """

    output: str
    atol: float
    rtol: float
    passed: bool
    problem: str = ""
    nan: int = 0
    inf: int = 0
    largest: float | None = None
    mean: float | None = None
    p99: float | None = None
    relative: float | None = None
    cosine: float | None = None
    required_atol: float | None = None
    worst: tuple[int, ...] | None = None
    first_beyond: tuple[int, ...] | None = None
    histogram: tuple[int, ...] = ()


def compare_tensor(output: str, expected: Array, found: Array | None, tolerance: Tolerance) -> TensorComparison:
    """Compare one output. `found` is None where the candidate does not have it."""
    problem = _problem(expected, found)
    nan, inf = (0, 0) if found is None else (int(np.isnan(found).sum()), int(np.isinf(found).sum()))
    if found is None or problem:
        return TensorComparison(output, tolerance.atol, tolerance.rtol, False, problem, nan, inf)
    original = expected.astype(np.float64)
    distance = np.abs(found - original)
    required = np.maximum(distance - tolerance.rtol * np.abs(original), 0)
    beyond = np.flatnonzero(required > tolerance.atol)
    return TensorComparison(
        output,
        tolerance.atol,
        tolerance.rtol,
        passed=not beyond.size,
        largest=float(distance.max()),
        mean=float(distance.mean()),
        p99=float(np.percentile(distance, 99)),
        relative=_ratio(float(distance.max()), float(np.ptp(original))),
        cosine=_cosine(original, found),
        required_atol=float(required.max()),
        worst=_position(int(np.argmax(distance)), distance.shape),
        first_beyond=_position(int(beyond[0]), distance.shape) if beyond.size else None,
        histogram=_histogram(distance),
    )


def _problem(expected: Array, found: Array | None) -> str:
    if found is None:
        return "missing"
    if found.shape != expected.shape:
        return f"shape {found.shape} instead of {expected.shape}"
    if found.dtype != expected.dtype:
        return f"{found.dtype} instead of {expected.dtype}"
    if not np.isfinite(expected).all():
        return "the original's values are not finite"
    if not np.isfinite(found).all():
        return "not finite"
    return ""


def _ratio(difference: float, spread: float) -> float:
    """A difference relative to a range. A constant tensor has none, and its own value says little, so 0 or 1."""
    return difference / spread if spread else float(difference > 0)


def _cosine(one: Array, other: Array) -> float:
    first, second = one.ravel(), other.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else float(np.array_equal(first, second))


def _position(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(number, shape))


def _histogram(distance: Array) -> tuple[int, ...]:
    numbers = np.searchsorted(DECADES, distance.ravel(), side="right")
    return tuple(int(count) for count in np.bincount(numbers, minlength=len(DECADES) + 1))
