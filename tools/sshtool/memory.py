"""Memory that threads share, so that together they need no more than one of them may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A number of bytes, of which each thread reserves what it needs for as long as it needs it.

    A thread has one reservation at a time: with a second one it could wait for itself.
    """

    def __init__(self, total: int) -> None:
        self.total = self._free = total
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Wait for `size` bytes and have them until the block ends. First come, first served.

        Of more than `total`, the block runs alone.
        """
        size = min(size, self.total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify()
