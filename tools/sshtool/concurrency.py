"""Work on one item after another that overlaps, in bounded memory, around a runtime that computes for all of them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from sshconvert.arrays import Pixels
from sshtool.runtimes.base import Outputs, Runtime

Item = TypeVar("Item")
Done = TypeVar("Done")

# Results wait for one that takes longer, so that they come in order. More than so many a worker are never begun.
WAITING: Final = 2
# Threads that read, resize and judge, beside those that wait for the runtime.
MOST_HELPERS: Final = 8
THREADS: Final = "sshtool-overlapped"


class SharedRuntime:
    """A runtime for the threads of `overlapped`, each of which brings an item of its own from beginning to end."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.batch = runtime.declaration.input_shape[0] or 1  # images at a time; a fixed batch takes no fewer
        self._slots = threading.BoundedSemaphore(runtime.parallel)
        self._stopped = threading.Event()

    @property
    def workers(self) -> int:
        """How many items are in work at once, and in memory."""
        return self.runtime.parallel + min(os.cpu_count() or 1, MOST_HELPERS)

    def each(self, work: Callable[[Item], Done], items: Iterable[Item]) -> Generator[Done, None, None]:
        """`overlapped` with `work` that calls `run`; closed, it computes nothing more."""
        self._stopped.clear()
        return overlapped(work, items, workers=self.workers, stop=self._stopped.set)

    def run(self, images: Sequence[Pixels]) -> Outputs:
        """The outputs for images of one size, uint8 [H, W, 3], at most `batch`. Raises what `Runtime.run` raises."""
        filled = [*images, *[images[-1]] * (self.batch - len(images))]
        with self._slots:
            if self._stopped.is_set():
                raise _StoppedError
            outputs = self.runtime.run(np.stack(filled))
        return {name: values[: len(images)] for name, values in outputs.items()}


class _StoppedError(Exception):
    """Ends a worker whose result nobody will ask for."""


def overlapped(
    work: Callable[[Item], Done], items: Iterable[Item], *, workers: int, stop: Callable[[], None]
) -> Generator[Done, None, None]:
    """`work(item)` for each item, in their order, on `workers` threads: so many are in work at once, never more.

    Each worker does an item from beginning to end. So while some read or compute, others already write: nothing has to
    be handed from thread to thread, and nothing piles up. Items are taken as they are needed.

    When the caller goes away or an exception is raised, `stop` is called, what has not begun is dropped, and what has
    is waited for: no thread outlives this. Close the generator (`contextlib.closing`) to be sure that this happens at
    once.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=THREADS)
    begun: deque[Future[Done]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= WAITING * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        stop()
        pool.shutdown(wait=True, cancel_futures=True)
