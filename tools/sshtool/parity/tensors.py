"""Comparison of an output tensor with the original's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.tasks.tolerances import Tolerance

# Edges of the histogram of absolute differences: below 1e-9, one bin for each decade, and above 1.
DECADES: Final = tuple(10.0**exponent for exponent in range(-9, 1))


@dataclass(frozen=True)
class TensorComparison:
    """The absolute differences of one output from the original's.

    If they cannot be compared, `problem` gives the reason (missing, another shape or type, not finite), and the figures
    are None. `relative` is the largest difference over the range of the expected values, `required_atol` the smallest
    absolute tolerance that passes with the same `rtol` (of a tolerance that saturates, the same part of it). `worst` is
    the position of the largest difference, `first_beyond` the first one out of tolerance, in C order. `histogram`
    counts elements by decade (`DECADES`). `times` is the distance from the exact result in units of the original's
    own, None without an exact result, and `times_limit` the largest that passes, None if a tolerance decides instead.
    `mean_limit` is the allowed mean, None without one.
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
    times: float | None = None
    times_limit: float | None = None
    mean_limit: float | None = None


def compare_tensor(output: str, expected: Array, actual: Array | None, tolerance: Tolerance) -> TensorComparison:
    """Compare one output. `actual` is None if the candidate does not have it."""
    problem = _problem(expected, actual)
    nan, inf = (0, 0) if actual is None else (int(np.isnan(actual).sum()), int(np.isinf(actual).sum()))
    if actual is None or problem:
        return TensorComparison(output, tolerance.atol, tolerance.rtol, False, problem, nan, inf)
    original = expected.astype(np.float64)
    distance = np.abs(actual - original)
    allowed = tolerance.at(original)
    if tolerance.saturates:
        required = tolerance.atol * distance / np.maximum(allowed, np.finfo(np.float64).tiny)
    else:
        required = np.maximum(distance - tolerance.rtol * np.abs(original), 0)
    beyond = np.flatnonzero(distance > allowed)
    mean = float(distance.mean())
    return TensorComparison(
        output,
        tolerance.atol,
        tolerance.rtol,
        passed=not beyond.size and (tolerance.mean is None or mean <= tolerance.mean),
        largest=float(distance.max()),
        mean=mean,
        mean_limit=tolerance.mean,
        p99=float(np.percentile(distance, 99)),
        relative=_ratio(float(distance.max()), float(np.ptp(original))),
        cosine=_cosine(original, actual),
        required_atol=float(required.max()),
        worst=_position(int(np.argmax(distance)), distance.shape),
        first_beyond=_position(int(beyond[0]), distance.shape) if beyond.size else None,
        histogram=_histogram(distance),
    )


def _problem(expected: Array, actual: Array | None) -> str:
    if actual is None:
        return "missing"
    if actual.shape != expected.shape:
        return f"shape {actual.shape} instead of {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"{actual.dtype} instead of {expected.dtype}"
    if not np.isfinite(expected).all():
        return "the original's values are not finite"
    return "" if np.isfinite(actual).all() else "not finite"


def _ratio(difference: float, spread: float) -> float:
    """Return a difference over a range. For a constant tensor, which has no range, it is 0 or 1."""
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
