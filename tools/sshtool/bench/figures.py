"""The figures of `sshtool bench`: medians and quartiles of what was measured, and ratios to a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshtool.bench.measuring import THROUGHPUT, Turn
from sshtool.bench.worker import Loaded

# Of the result. A new key does not change it; a changed meaning does.
BENCH_VERSION: Final = 1


@dataclass(frozen=True)
class Spread:
    """How values lie: their number, the least, the quartiles and the most."""

    count: int
    least: float
    lower: float
    median: float
    upper: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Of one value at least. Quartiles are interpolated between the values themselves."""
    ordered = sorted(values)
    lower, median, upper = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return Spread(len(ordered), ordered[0], lower, median, upper, ordered[-1])


@dataclass(frozen=True)
class Measured:
    """One candidate in one mode, over all its turns.

    `seconds` are those of single computations; `images_per_second` of turns. `speed` is how many times as fast as the
    baseline it does an image, from turns of the same round: by latency or by throughput, as the mode is. `cpu_seconds`
    are those of all threads together for one computation; `cores` is how many of them were at work. `peak_bytes` is the
    most memory that the process held, all in all; None where the system does not say. `first_seconds` is how long the
    first computation took, which is not counted.
    """

    requests: int
    seconds: Spread
    images_per_second: Spread
    speed: Spread | None
    cpu_seconds: float
    cores: float
    peak_bytes: int | None
    load_seconds: float
    first_seconds: float
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class CandidateFigures:
    """An artifact with a runtime. `input_shape` is what it was fed: N, C, H, W. What was not measured is None."""

    label: str
    path: Path
    files: Mapping[str, str]
    bytes: int
    runtime: str
    inference_precision: str
    precision: str
    weights: str
    input_shape: tuple[int, ...]
    latency: Measured | None
    throughput: Measured | None


@dataclass(frozen=True)
class LeftOut:
    """A candidate that was there but could not be measured, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class TurnOf:
    """Whose turn it was, in the order of time; rounds from 1."""

    mode: str
    round: int
    label: str


@dataclass(frozen=True)
class BenchResult:
    """All figures. `threads` and `requests` are as asked for, 0 being each runtime's own choice.

    `duration` is in seconds, for each candidate and mode; 0 if `runs` counted. `load_before` is how many processes
    wanted a core on average in the minute before, None where the system does not say.
    """

    bench_version: int
    model: str
    device: str
    threads: int
    requests: int
    duration: float
    runs: int
    rounds: int
    baseline: str
    candidates: tuple[CandidateFigures, ...]
    left_out: tuple[LeftOut, ...]
    order: tuple[TurnOf, ...]
    cores: int
    load_before: float | None
    environment: Mapping[str, str]
    written: tuple[Path, ...]


def measured(
    mode: str, loaded: Loaded, turns: Sequence[Turn], peak_bytes: int | None, baseline: Sequence[float] | None
) -> Measured:
    """The figures of turns. `baseline` is what `speeds` says of the baseline's, round by round."""
    images = loaded.input_shape[0]
    done = sum(len(turn.seconds) for turn in turns)
    cpu, wall = (sum(getattr(turn, f"{clock}_seconds") for turn in turns) for clock in ("cpu", "wall"))
    own = speeds(mode, loaded, turns)
    return Measured(
        requests=loaded.requests if mode == THROUGHPUT else 1,
        seconds=spread([value for turn in turns for value in turn.seconds]),
        images_per_second=spread([turn.rate * images for turn in turns]),
        speed=None if baseline is None else spread([mine / its for mine, its in zip(own, baseline, strict=True)]),
        cpu_seconds=cpu / done,
        cores=cpu / wall,
        peak_bytes=peak_bytes,
        load_seconds=loaded.load_seconds,
        first_seconds=loaded.first_seconds,
        turns=tuple(turns),
    )


def speeds(mode: str, loaded: Loaded, turns: Sequence[Turn]) -> list[float]:
    """Images a second of each turn: by its rate, or by its median latency."""
    images = loaded.input_shape[0]
    if mode == THROUGHPUT:
        return [turn.rate * images for turn in turns]
    return [images / statistics.median(turn.seconds) for turn in turns]
