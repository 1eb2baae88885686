"""Histograms of absolute differences by decade, as coordinates for an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sshconvert.messages import count
from sshtool.parity.tensors import DECADES
from sshtool.report.axis import Axis
from sshtool.report.summary import Column, worst

# The geometry, in units of the SVG's view box.
WIDTH: Final = 240
HEIGHT: Final = 120
LEFT: Final = 26
TOP: Final = 18
BOTTOM: Final = 94

BARS: Final = len(DECADES) + 1
BAR: Final = (WIDTH - LEFT - 4) / BARS
ACROSS: Final = Axis(LEFT, WIDTH - 4, high=BARS, digits=2)
FIRST_EXPONENT: Final = round(math.log10(DECADES[0]))

# The axis of counts is logarithmic. A count of 1 has the height of this part of a decade.
BASE: Final = 0.35


@dataclass(frozen=True)
class Bar:
    """The number of elements whose difference lies in a decade. `beyond` marks those beyond a missed tolerance."""

    x: float
    y: float
    height: float
    beyond: bool
    text: str


@dataclass(frozen=True)
class Tick:
    """A coordinate on an axis, and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """The differences of one output over all samples. `text` describes the bars, or why there are none."""

    output: str
    text: str
    bars: tuple[Bar, ...] = ()
    ticks: tuple[Tick, ...] = ()
    counts: tuple[Tick, ...] = ()
    tolerance: Tick | None = None


def histograms(column: Column, outputs: Sequence[str]) -> tuple[Histogram, ...]:
    """A histogram for each output, all with the same axes."""
    totals = {output: total(column, output) for output in outputs}
    top = math.ceil(math.log10(max((max(counts, default=1) for counts in totals.values()), default=1) or 1)) or 1
    return tuple(_histogram(column, output, counts, top) for output, counts in totals.items())


def total(column: Column, output: str) -> tuple[int, ...]:
    """The counts over all samples; () if no sample has any."""
    samples = column.report.samples if column.report else ()
    counts = [tensor.histogram for item in samples for tensor in item.tensors if tensor.output == output]
    return tuple(sum(decade) for decade in zip(*filter(None, counts), strict=True))


def _histogram(column: Column, output: str, counts: Sequence[int], top: int) -> Histogram:
    largest = worst(column, output)
    if not counts or largest is None:
        return Histogram(output, (largest.tensor.problem if largest else "") or "not compared")
    atol, failed = largest.tensor.atol, not largest.tensor.passed
    return Histogram(
        output,
        _describe(counts, atol),
        bars=tuple(
            _bar(number, amount, atol if failed else math.inf, top) for number, amount in enumerate(counts) if amount
        ),
        ticks=tuple(Tick(_across(10.0**exponent), _power(exponent)) for exponent in range(FIRST_EXPONENT, 1, 3)),
        counts=tuple(Tick(_up(10**exponent, top), _power(exponent)) for exponent in range(0, top + 1, 2)),
        tolerance=Tick(_across(atol), f"{atol:.2g}"),
    )


def _bar(number: int, amount: int, limit: float, top: int) -> Bar:
    y = _up(amount, top)
    lower = DECADES[number - 1] if number else 0.0
    return Bar(ACROSS.at(number), y, round(BOTTOM - y, 2), lower >= limit, f"{_decade(number)}: {amount:,}")


def _decade(number: int) -> str:
    if number == 0:
        return f"below {DECADES[0]:g}"
    if number == len(DECADES):
        return f"{DECADES[-1]:g} and more"
    return f"{DECADES[number - 1]:g} to {DECADES[number]:g}"


def _power(exponent: int) -> str:
    return f"1e{exponent}" if exponent else "1"


def _across(value: float) -> float:
    """The x of a difference, limited to the axis: the first bar has no lower end and the last no upper end."""
    place = math.log10(value) - FIRST_EXPONENT + 1 if value > 0 else 0
    return ACROSS.at(min(max(place, 0), BARS))


def _up(amount: int, top: int) -> float:
    """The y of a count on an axis that ends at 10 ** `top`."""
    return Axis(BOTTOM, TOP, -BASE, top, digits=2).at(math.log10(amount))


def _describe(counts: Sequence[int], atol: float) -> str:
    """The histogram in words, for screen readers."""
    filled = [number for number, amount in enumerate(counts) if amount]
    most = max(filled, key=lambda number: counts[number])
    return (
        f"{count(sum(counts), 'element')}; most differ by {_decade(most)}, the furthest by {_decade(filled[-1])}; "
        f"the tolerance is {atol:.2g}"
    )
