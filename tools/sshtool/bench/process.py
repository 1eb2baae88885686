"""The other end of a worker: starts the process, tells it what to do, and ends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from sshtool.bench.measuring import Dose, Turn
from sshtool.bench.worker import Loaded, Work
from sshtool.sandbox import Child, Limits, confined

SERVICE: Final = "sshtool.bench.worker:Service"

# A computation may take that many times as long as the first one.
SLOWER: Final = 10


class Worker(Child):
    """A context: a process with a loaded candidate that computes when it is its turn. It is killed at the end."""

    def __init__(self, work: Work) -> None:
        """Start the process and load the candidate. Raises UsageError, and what loading and running raise."""
        super().__init__(SERVICE, confined() or Limits())
        self._path = work.path
        self.peak_bytes: int | None = None
        try:
            body = self.ask(self._path, asdict(work)).body
        except BaseException:
            self.close()
            raise
        self.loaded = Loaded(**body | {"input_shape": tuple(body["input_shape"])})

    def measure(self, dose: Dose) -> Turn:
        """One turn. Raises what running raises."""
        patience = dose.seconds + SLOWER * dose.runs * self.loaded.first_seconds
        body = self.ask(self._path, asdict(dose), seconds=patience).body
        self.peak_bytes = body["peak_bytes"]
        return Turn(**body["turn"] | {"seconds": tuple(body["turn"]["seconds"])})
