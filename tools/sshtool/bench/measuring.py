"""How long computations take, and how many of them a second there can be.

Only the runtime's own work is timed: images are in place before, and outputs stay where they are.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from sshtool.runtimes.base import Inference

LATENCY, THROUGHPUT = MODES = ("latency", "throughput")

Span = tuple[float, float]  # when a computation began and ended

_PATIENCE: Final = 3600.0  # for the first computations to end


@dataclass(frozen=True)
class Turn:
    """What one turn of a candidate gave.

    `seconds` are those of each computation, in their order; `rate` is computations a second; `cpu_seconds` are of all
    threads together, and `wall_seconds` by the clock, for all computations of the turn.
    """

    seconds: tuple[float, ...]
    rate: float
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Dose:
    """How much to measure in a turn: so many computations, or, if `runs` is 0, as many as begin within the seconds."""

    seconds: float
    runs: int = 0

    def enough(self, done: int, elapsed: float) -> bool:
        return done >= self.runs if self.runs else done > 0 and elapsed >= self.seconds


def measure_latency(infer: Inference, dose: Dose) -> Turn:
    """One computation after another. The first is not counted: the caches are those of another process."""
    infer()
    cpu, start = time.process_time(), time.perf_counter()
    seconds: list[float] = []
    while not dose.enough(len(seconds), time.perf_counter() - start):
        before = time.perf_counter()
        infer()
        seconds.append(time.perf_counter() - before)
    wall = time.perf_counter() - start
    return Turn(tuple(seconds), len(seconds) / wall, time.process_time() - cpu, wall)


def measure_throughput(inferences: Sequence[Inference], dose: Dose) -> Turn:
    """All at once, each in a thread of its own, over and over. The first of each is not counted."""
    share = Dose(dose.seconds, math.ceil(dose.runs / len(inferences)))
    begun: list[tuple[float, float]] = []
    start = threading.Barrier(len(inferences), lambda: begun.append((time.perf_counter(), time.process_time())))

    def work(infer: Inference) -> list[Span]:
        try:
            infer()
        except BaseException:
            start.abort()  # the others would wait for ever
            raise
        start.wait(_PATIENCE)
        spans: list[Span] = []
        while not share.enough(len(spans), time.perf_counter() - begun[0][0]):
            before = time.perf_counter()
            infer()
            spans.append((before, time.perf_counter()))
        return spans

    with ThreadPoolExecutor(len(inferences)) as pool:
        futures = [pool.submit(work, infer) for infer in inferences]
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    streams = [future.result() for future in futures]
    (began, cpu), end = begun[0], max(spans[-1][1] for spans in streams)
    seconds = tuple(after - before for spans in streams for before, after in spans)
    return Turn(seconds, rate(streams, began), time.process_time() - cpu, end - began)


def rate(streams: Sequence[Sequence[Span]], began: float) -> float:
    """Computations a second while all streams were at work: until the first of them stopped.

    What was not finished then counts by the part that was. Otherwise the end, where some have stopped and the others
    finish alone, would weigh the more the shorter the turn.
    """
    until = min(spans[-1][1] for spans in streams)
    done = sum(
        1.0 if after <= until else (until - before) / (after - before)
        for spans in streams
        for before, after in spans
        if before < until
    )
    return done / (until - began)
