"""The figures of `sshtool bench`: medians, quartiles, and ratios to a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshtool.bench.measuring import THROUGHPUT, Turn
from sshtool.bench.worker import Loaded

# The version of the result. A new key leaves it unchanged; a changed meaning increases it.
BENCH_VERSION: Final = 1


@dataclass(frozen=True)
class Spread:
    """A summary of values: their number, the minimum, the quartiles and the maximum."""

    count: int
    least: float
    lower: float
    median: float
    upper: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise at least one value. Quartiles are interpolated between the values ("inclusive")."""
    ordered = sorted(values)
    lower, median, upper = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return Spread(len(ordered), ordered[0], lower, median, upper, ordered[-1])


@dataclass(frozen=True)
class Measured:
    """One candidate in one mode, over all its turns.

    `seconds` summarises single computations, `images_per_second` turns. `speed` is the ratio of the images a second to
    the baseline's in the same round, by the median latency or by the throughput, as the mode says. `cpu_seconds` is the
    CPU time of all threads for one computation; `cores` is CPU time / wall-clock time. `peak_bytes` is the peak memory
    of the process, None if the system does not report it. `first_seconds` is the duration of the first computation,
    which the other figures leave out.
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
    """An artifact with a runtime. `input_shape` is the measured N, C, H, W. A mode that was not measured is None."""

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
    """A candidate that could not be measured, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class TurnOf:
    """The candidate whose turn it was. Rounds count from 1."""

    mode: str
    round: int
    label: str


@dataclass(frozen=True)
class BenchResult:
    """All figures. `threads` and `requests` repeat the options; 0 is each runtime's own choice.

    `duration` is in seconds for each candidate and mode, 0 if `runs` limits them. `load_before` is the load average of
    the minute before, None if the system does not report it.
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
    """The figures of turns. `baseline` holds the baseline's `speeds`, one a round."""
    images = loaded.input_shape[0]
    computations = sum(len(turn.seconds) for turn in turns)
    cpu, wall = sum(turn.cpu_seconds for turn in turns), sum(turn.wall_seconds for turn in turns)
    own = speeds(mode, loaded, turns)
    return Measured(
        requests=loaded.requests if mode == THROUGHPUT else 1,
        seconds=spread([value for turn in turns for value in turn.seconds]),
        images_per_second=spread([turn.rate * images for turn in turns]),
        speed=None if baseline is None else spread([ours / its for ours, its in zip(own, baseline, strict=True)]),
        cpu_seconds=cpu / computations,
        cores=cpu / wall,
        peak_bytes=peak_bytes,
        load_seconds=loaded.load_seconds,
        first_seconds=loaded.first_seconds,
        turns=tuple(turns),
    )


def speeds(mode: str, loaded: Loaded, turns: Sequence[Turn]) -> list[float]:
    """Images a second of each turn: from its rate, or from its median latency."""
    images = loaded.input_shape[0]
    if mode == THROUGHPUT:
        return [turn.rate * images for turn in turns]
    return [images / statistics.median(turn.seconds) for turn in turns]
