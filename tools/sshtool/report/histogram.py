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

# In units of the picture, which the page scales to the room there is.
WIDTH: Final = 240
HEIGHT: Final = 120
LEFT: Final = 26
TOP: Final = 18
BOTTOM: Final = 94

BARS: Final = len(DECADES) + 1
BAR: Final = (WIDTH - LEFT - 4) / BARS
ACROSS: Final = Axis(LEFT, WIDTH - 4, high=BARS, digits=2)
FIRST_EXPONENT: Final = round(math.log10(DECADES[0]))

# Counts go over as many decades as differences do, so their axis is logarithmic too: 1 is this part of a decade high.
BASE: Final = 0.35


@dataclass(frozen=True)
class Bar:
    """How many elements differ by as much as lies between two powers of ten."""

    x: float
    y: float
    height: float
    beyond: bool
    text: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """The differences of one output over all samples. Without bars, `text` says why."""

    output: str
    text: str
    bars: tuple[Bar, ...] = ()
    ticks: tuple[Tick, ...] = ()
    counts: tuple[Tick, ...] = ()
    tolerance: Tick | None = None


def histograms(column: Column, outputs: Sequence[str]) -> tuple[Histogram, ...]:
    """One for each output, all with the same axes."""
    totals = {output: total(column, output) for output in outputs}
    top = math.ceil(math.log10(max((max(counts, default=1) for counts in totals.values()), default=1) or 1)) or 1
    return tuple(_histogram(column, output, counts, top) for output, counts in totals.items())


def total(column: Column, output: str) -> tuple[int, ...]:
    """The counts of all samples together; () where nothing could be counted."""
    compared = column.report.samples if column.report else ()
    found = [tensor.histogram for item in compared for tensor in item.tensors if tensor.output == output]
    return tuple(sum(counts) for counts in zip(*filter(None, found), strict=True))


def _histogram(column: Column, output: str, counts: Sequence[int], top: int) -> Histogram:
    found = worst(column, output)
    if not counts or found is None:
        return Histogram(output, (found.tensor.problem if found else "") or "not compared")
    atol = found.tensor.atol
    return Histogram(
        output,
        _describe(counts, atol),
        bars=tuple(_bar(number, amount, atol, top) for number, amount in enumerate(counts) if amount),
        ticks=tuple(Tick(_across(10.0**exponent), _power(exponent)) for exponent in range(FIRST_EXPONENT, 1, 3)),
        counts=tuple(Tick(_up(10**exponent, top), _power(exponent)) for exponent in range(0, top + 1, 2)),
        tolerance=Tick(_across(atol), f"{atol:g}"),
    )


def _bar(number: int, amount: int, atol: float, top: int) -> Bar:
    y = _up(amount, top)
    lower = DECADES[number - 1] if number else 0.0
    return Bar(ACROSS.at(number), y, round(BOTTOM - y, 2), lower >= atol, f"{_decade(number)}: {amount:,}")


def _decade(number: int) -> str:
    if number == 0:
        return f"below {DECADES[0]:g}"
    if number == len(DECADES):
        return f"{DECADES[-1]:g} and more"
    return f"{DECADES[number - 1]:g} to {DECADES[number]:g}"


def _power(exponent: int) -> str:
    return f"1e{exponent}" if exponent else "1"


def _across(value: float) -> float:
    """Where a difference lies on the horizontal axis, whose first bar has no lower end and whose last no upper one."""
    place = math.log10(value) - FIRST_EXPONENT + 1 if value > 0 else 0
    return ACROSS.at(min(max(place, 0), BARS))


def _up(amount: int, top: int) -> float:
    """How high a count reaches on an axis up to 10 to the power of `top`."""
    return Axis(BOTTOM, TOP, -BASE, top, digits=2).at(math.log10(amount))


def _describe(counts: Sequence[int], atol: float) -> str:
    """The histogram in words, for who does not see it."""
    filled = [number for number, amount in enumerate(counts) if amount]
    most = max(filled, key=lambda number: counts[number])
    return (
        f"{count(sum(counts), 'element')}; most differ by {_decade(most)}, the furthest by {_decade(filled[-1])}; "
        f"the tolerance is {atol:g}"
    )
