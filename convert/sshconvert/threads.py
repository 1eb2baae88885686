"""Work on several cores at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

# Does the work of some parts.
Work = Callable[[Sequence[int]], None]


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Work, parts: Sequence[int]) -> None:
    """Do the work of all parts: each core takes every nth part. Raises what the work raises."""
    count = min(usable_cores(), len(parts))
    if count < 2:
        work(parts)
        return
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, parts[first::count]) for first in range(count)]:
            done.result()
