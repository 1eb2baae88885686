"""Progress with rate and remaining time."""

from __future__ import annotations

import time
from typing import Final

from sshtool.progress import Progress

# Seconds between the lines of progress in a log.
PERIOD: Final = 60.0


class Meter:
    """Reports progress on images, or other units, with rate and remaining time."""

    def __init__(self, label: str, total: int, before: int, progress: Progress, *, unit: str = "images") -> None:
        """An earlier run did `before` of `total` units. A `total` of 0 is unknown."""
        self._label, self._total, self._before, self._progress, self._unit = label, total, before, progress, unit
        self._done = before
        self._start = self._logged = time.monotonic()
        progress(label, before, total)
        if before:
            progress(f"{label}: going on after {before} of {total} {unit}")

    @property
    def rate(self) -> float:
        """Units per second of this run."""
        return (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def step(self) -> None:
        self._done += 1
        speed = f"{self.rate:.3g} {self._unit}/s"
        if self._done <= self._total:
            speed += f", {_clock((self._total - self._done) / self.rate)} left"
        if self._done < self._total:
            self._progress(f"{self._label}, {speed}", self._done, self._total)
        elif self._done > self._total:  # the total is unknown, or was an estimate
            self._progress(f"{self._label}, {self._done} {self._unit}, {speed}", self._done)
        if time.monotonic() - self._logged > PERIOD:  # logs show only the steps without numbers
            self._logged = time.monotonic()
            of = f" of {self._total}" if self._done <= self._total else ""
            self._progress(f"{self._label}: {self._done}{of} {self._unit}, {speed}")


def _clock(seconds: float) -> str:
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"
