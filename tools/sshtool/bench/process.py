"""The parent's side of a worker process: starts it, sends it work, and ends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from sshtool.bench.measuring import Dose, Turn
from sshtool.bench.worker import Loaded, Work
from sshtool.sandbox import Child, Limits, confined

SERVICE: Final = "sshtool.bench.worker:Service"

# A computation may take this many times as long as the first one.
SLOWER: Final = 10


class Worker(Child):
    """A process that has loaded a candidate and measures it in turns. Leaving the context kills the process."""

    def __init__(self, work: Work) -> None:
        """Start the process and load the candidate. Raises UsageError and the errors of loading and running."""
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
        """Measure one turn. Raises the errors of running."""
        timeout = dose.seconds + SLOWER * dose.runs * self.loaded.first_seconds
        body = self.ask(self._path, asdict(dose), seconds=timeout).body
        self.peak_bytes = body["peak_bytes"]
        return Turn(**body["turn"] | {"seconds": tuple(body["turn"]["seconds"])})
