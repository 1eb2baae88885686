"""Measures the latency and the throughput of a loaded network.

The clock covers the runtime's own work: the images are in place before, and the outputs are not read.
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

Span = tuple[float, float]  # the start and the end of a computation

_FIRST_TIMEOUT: Final = 3600.0  # seconds for the first computations


@dataclass(frozen=True)
class Turn:
    """The measurements of one turn of a candidate.

    `seconds` holds the duration of each computation, in their order; `rate` is computations a second. `cpu_seconds` (of
    all threads) and `wall_seconds` cover all computations of the turn.
    """

    seconds: tuple[float, ...]
    rate: float
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Dose:
    """The length of a turn: `runs` computations, or, if that is 0, as many as begin within `seconds`."""

    seconds: float
    runs: int = 0

    def enough(self, computations: int, elapsed: float) -> bool:
        return computations >= self.runs if self.runs else computations > 0 and elapsed >= self.seconds


def measure_latency(infer: Inference, dose: Dose) -> Turn:
    """Run one computation after another. The first one does not count, because it fills the caches."""
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
    """Run all inferences in parallel, each in its own thread. The first computation of each does not count."""
    share = Dose(dose.seconds, math.ceil(dose.runs / len(inferences)))
    clocks: list[tuple[float, float]] = []
    start = threading.Barrier(len(inferences), lambda: clocks.append((time.perf_counter(), time.process_time())))

    def work(infer: Inference) -> list[Span]:
        try:
            infer()
        except BaseException:
            start.abort()  # otherwise the other threads wait for the timeout
            raise
        start.wait(_FIRST_TIMEOUT)
        spans: list[Span] = []
        while not share.enough(len(spans), time.perf_counter() - clocks[0][0]):
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
    (began, cpu), end = clocks[0], max(spans[-1][1] for spans in streams)
    seconds = tuple(after - before for spans in streams for before, after in spans)
    return Turn(seconds, rate(streams, began), time.process_time() - cpu, end - began)


def rate(streams: Sequence[Sequence[Span]], began: float) -> float:
    """Computations a second from `began` until the first stream stops, while all streams run.

    A computation that is unfinished at that time counts by its finished part. A rate over the whole turn would depend
    on the length of the turn, because at its end some streams run alone.
    """
    until = min(spans[-1][1] for spans in streams)
    computations = sum(
        1.0 if after <= until else (until - before) / (after - before)
        for spans in streams
        for before, after in spans
        if before < until
    )
    return computations / (until - began)
