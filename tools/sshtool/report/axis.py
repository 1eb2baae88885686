"""Axes of the plots in reports, which map values to coordinates of an inline SVG."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A linear axis: `low` lies at the coordinate `start`, `high` at `end`. Coordinates are rounded to `digits`."""

    start: float
    end: float
    low: float = 0.0
    high: float = 1.0
    digits: int = 1

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), self.digits)
