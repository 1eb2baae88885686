"""The other end of a worker: starts it, tells it what to do, and sees to it that it ends."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, Self

from sshtool.bench.measuring import Dose, Turn
from sshtool.bench.worker import Loaded, Work
from sshtool.sandbox import Child, Limits, confined

SERVICE: Final = "sshtool.bench.worker:Service"

# A computation may take that many times as long as the first one.
SLOWER: Final = 10


class Worker:
    """A context: a process with a loaded candidate that computes when it is its turn. It is killed at the end."""

    def __init__(self, work: Work) -> None:
        """Start it and have it load. Raises UsageError, and what loading and running raise."""
        self._path = work.path
        self.peak_bytes: int | None = None
        self._child = Child(SERVICE, confined() or Limits())
        try:
            body = self._ask(asdict(work))
            self.loaded = Loaded(**body | {"input_shape": tuple(body["input_shape"])})
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        return self._child.process_id

    def measure(self, dose: Dose) -> Turn:
        """One turn. Raises what running raises."""
        body = self._ask(asdict(dose), seconds=dose.seconds + SLOWER * dose.runs * self.loaded.first_seconds)
        self.peak_bytes = body["peak_bytes"]
        return Turn(**body["turn"] | {"seconds": tuple(body["turn"]["seconds"])})

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, body: dict[str, Any], *, seconds: float = 0) -> dict[str, Any]:
        return self._child.ask(self._path, body, seconds=seconds).body
