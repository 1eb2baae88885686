"""The other end of a worker: starts it, tells it what to do, and sees to it that it ends."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

from sshconvert import errors
from sshconvert.errors import ArtifactError, SSHToolError
from sshtool.bench.measuring import Dose, Turn
from sshtool.bench.worker import Loaded, Work

# With the parent's path, before anything is imported: `-c` alone would look into the current folder first.
START: Final = "import sys; sys.path[:] = sys.argv[1:]; from sshtool.bench.worker import main; main()"


class Worker:
    """A context: a process with a loaded candidate that computes when it is its turn. It is killed at the end."""

    def __init__(self, work: Work) -> None:
        """Start it and have it load. Raises UsageError, and what loading and running raise."""
        self._path = work.path
        self.peak_bytes: int | None = None
        self._process = subprocess.Popen(  # noqa: S603  # this same program
            [sys.executable, "-c", START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        try:
            body = self._ask(asdict(work))
            self.loaded = Loaded(**body | {"input_shape": tuple(body["input_shape"])})
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        return self._process.pid

    def measure(self, dose: Dose) -> Turn:
        """One turn. Raises what running raises."""
        body = self._ask(asdict(dose))
        self.peak_bytes = body["peak_bytes"]
        return Turn(**body["turn"] | {"seconds": tuple(body["turn"]["seconds"])})

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it was to be told is of no use any more
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(body) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ArtifactError(f"{self._path}: the process that ran it {self._end()}; `sshtool verify` may say why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = vars(errors).get(answer["error"])
            if isinstance(kind, type) and issubclass(kind, SSHToolError):
                raise kind(answer["message"])
            raise RuntimeError(answer["message"])
        return answer

    def _end(self) -> str:
        code = self._process.wait()
        if code == -getattr(signal, "SIGKILL", 9):
            return "was killed: there may be too little memory"
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
