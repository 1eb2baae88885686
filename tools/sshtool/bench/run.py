"""Measures candidates in turns: one at a time, each once a round, so that other load on the machine affects all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.models.spec import ModelSpec
from sshtool.bench.figures import LeftOut, TurnOf
from sshtool.bench.measuring import THROUGHPUT, Dose, Turn
from sshtool.bench.process import Worker
from sshtool.bench.worker import Loaded, Work
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.runtimes.registry import usual_runtime

# Seconds until the threads of the previous candidate stop spinning.
PAUSE: Final = 0.2


@dataclass(frozen=True)
class BenchCandidate:
    """A file, a runtime and an inference precision. An `optional` one is left out if its runtime is not installed."""

    label: str
    path: Path
    runtime: str
    inference_precision: str
    optional: bool = False
    symbol: Path | None = None  # of a checkpoint, if it is not the one beside `path`


@dataclass(frozen=True)
class Doses:
    """How much to measure of each candidate in each mode: `runs` computations, or, if that is 0, `seconds`."""

    seconds: float
    runs: int
    rounds: int

    def of_turns(self) -> list[Dose]:
        """The dose of each round. Runs are spread evenly; the first rounds take the remainder."""
        if not self.runs:
            return [Dose(self.seconds / self.rounds)] * self.rounds
        rounds = min(self.rounds, self.runs)
        return [Dose(0, (self.runs + rounds - 1 - number) // rounds) for number in range(rounds)]


@dataclass(frozen=True)
class Feed:
    """The settings of all candidates, and N, H and W of the images; 0 leaves the size to the file or the model."""

    settings: Settings
    size: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Measurement:
    """One candidate in one mode."""

    loaded: Loaded
    turns: tuple[Turn, ...]
    peak_bytes: int | None


@dataclass(frozen=True)
class ModeRun:
    """One mode: the measurements by label, the order of the turns, and the candidates that were left out."""

    measurements: Mapping[str, Measurement]
    order: tuple[TurnOf, ...]
    left_out: tuple[LeftOut, ...]


def measure(
    mode: str,
    model: ModelSpec,
    candidates: Sequence[BenchCandidate],
    feed: Feed,
    doses: Doses,
    *,
    progress: Progress = silent,
) -> ModeRun:
    """Measure all candidates in one mode.

    An optional candidate whose runtime is not installed is left out. Raises UsageError and the errors of loading and
    running.
    """
    left_out = []
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for candidate in candidates:
            progress(f"{candidate.label}, {mode}: loading {candidate.path}")
            try:
                worker = Worker(_work(mode, model, candidate, feed))
            except RuntimeUnavailableError as error:
                if not candidate.optional:
                    raise
                left_out.append(LeftOut(candidate.label, str(error)))
            else:
                workers[candidate.label] = stack.enter_context(worker)
        turns, order = _take_turns(mode, workers, doses, progress)
        measurements = {
            label: Measurement(worker.loaded, tuple(turns[label]), worker.peak_bytes)
            for label, worker in workers.items()
        }
    return ModeRun(measurements, tuple(order), tuple(left_out))


def _take_turns(
    mode: str, workers: Mapping[str, Worker], doses: Doses, progress: Progress
) -> tuple[dict[str, list[Turn]], list[TurnOf]]:
    # Each round begins with another candidate, because the place in a round may matter.
    turns: dict[str, list[Turn]] = {label: [] for label in workers}
    order: list[TurnOf] = []
    labels = list(workers)
    rounds = doses.of_turns()
    for number, dose in enumerate(rounds):
        first = number % max(1, len(labels))
        for label in labels[first:] + labels[:first]:
            progress(
                f"measuring {mode}, {label}" if order else f"measuring {mode}", len(order), len(rounds) * len(labels)
            )
            if order:
                time.sleep(PAUSE)
            turns[label].append(workers[label].measure(dose))
            order.append(TurnOf(mode, number + 1, label))
    return turns, order


def _work(mode: str, model: ModelSpec, candidate: BenchCandidate, feed: Feed) -> Work:
    throughput = mode == THROUGHPUT
    settings = feed.settings
    runtime = usual_runtime(candidate.path, candidate.runtime)
    requests = settings.requests or runtime.default_requests(settings.threads)
    return Work(
        path=str(candidate.path),
        symbol=str(candidate.symbol or ""),
        model=model.described(),
        runtime=candidate.runtime,
        mode=mode,
        settings=replace(
            settings,
            inference_precision=candidate.inference_precision,
            throughput=throughput,
            requests=requests if throughput else 0,
        ),
        size=feed.size,
    )
