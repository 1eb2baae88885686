"""Overlapped work on a sequence of items, in bounded memory, around one shared runtime."""

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

WAITING: Final = 2  # items per worker that are in work or wait for an earlier, slower one
# Threads that read, resize and compare, beside those that wait for the runtime.
MOST_HELPERS: Final = 8
THREADS: Final = "sshtool-overlapped"


class SharedRuntime:
    """A runtime that the threads of `overlapped` share."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.batch = runtime.declaration.input_shape[0] or 1  # images per run; `run` fills up a fixed batch
        self._slots = threading.BoundedSemaphore(runtime.parallel)
        self._stopped = threading.Event()

    @property
    def workers(self) -> int:
        """The number of items that are in work, and in memory, at the same time."""
        return self.runtime.parallel + min(os.cpu_count() or 1, MOST_HELPERS)

    def each(
        self, work: Callable[[Item], Done], items: Iterable[Item], *, most: int | None = None
    ) -> Generator[Done, None, None]:
        """`overlapped` for `work` that calls `run`, on at most `most` threads for items that take much memory.

        Closing the generator ends the computation.
        """
        self._stopped.clear()
        workers = self.workers if most is None else min(self.workers, most)
        return overlapped(work, items, workers=workers, stop=self._stopped.set)

    def run(self, images: Sequence[Pixels]) -> Outputs:
        """The outputs for at most `batch` images of one size, uint8 [H, W, 3]. Raises what `Runtime.run` raises."""
        filled = [*images, *[images[-1]] * (self.batch - len(images))]
        with self._slots:
            if self._stopped.is_set():
                raise _StoppedError
            outputs = self.runtime.run(np.stack(filled))
        return {name: values[: len(images)] for name, values in outputs.items()}


class _StoppedError(Exception):
    """Ends a worker whose result is no longer needed."""


def overlapped(
    work: Callable[[Item], Done], items: Iterable[Item], *, workers: int, stop: Callable[[], None]
) -> Generator[Done, None, None]:
    """Yield `work(item)` for each item, in order, computed on `workers` threads.

    A thread works on an item from beginning to end, so threads that read overlap with threads that compute. Takes items
    from the iterable when a thread needs them.

    When the caller closes the generator or an exception is raised, it calls `stop`, drops waiting items, and waits for
    its threads. Use `contextlib.closing` to close it at once.
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
