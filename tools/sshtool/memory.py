"""A memory budget that threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A number of bytes from which threads reserve a share for the length of a block.

    A thread holds one reservation at a time: a second one could wait for the first.
    """

    def __init__(self, total: int) -> None:
        self.total = self._free = total
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Wait for `size` bytes, in the order of requests, and hold them for the block.

        With `total` bytes or more, the block runs alone.
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
