"""Work on one item after another that overlaps, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

# Results wait for one that takes longer, so that they come in order. More than so many a worker are never begun.
WAITING: Final = 2


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
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sshtool-evaluate")
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
