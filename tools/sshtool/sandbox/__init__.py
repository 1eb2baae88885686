"""A child process with limits on memory and time for untrusted models and files.

Validation by allow-list is incomplete. A model that exceeds the limits or crashes its runtime ends only the child, and
the caller gets an ArtifactError.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, Self

from sshconvert import errors
from sshconvert.arrays import Array
from sshconvert.errors import ArtifactError, SSHToolError
from sshtool.sandbox.channel import Channel, Message

GIGABYTE: Final = 1 << 30

# Sets the parent's `sys.path` before other imports: `-c` would search the current folder first.
START: Final = "import sys; sys.path[:] = sys.argv[3:]; from sshtool.sandbox.child import main; main()"

_PIPE: Final = 1 << 20  # bytes; the largest pipe that Linux allows every user
_SET_PIPE_SIZE: Final = 1031  # fcntl's F_SETPIPE_SZ
_POLL: Final = 0.5  # seconds
_PATIENCE: Final = 10.0  # seconds; processes of the child may hold its pipe open


def usual_memory() -> int:
    """The default memory limit of a child in bytes: the larger of 8 GB and half of the machine's memory."""
    if sys.platform != "win32":
        with contextlib.suppress(ValueError, OSError):
            return max(8 * GIGABYTE, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return 8 * GIGABYTE


@dataclass(frozen=True)
class Limits:
    """The limits of a child: bytes of memory for its data (on Linux), and seconds without an answer."""

    memory: int = field(default_factory=usual_memory)
    seconds: float = 300.0


_confined: list[Limits] = []


def confine(limits: Limits) -> None:
    """Run untrusted models in the sandbox from now on. The command line does so; a user of the library can."""
    _confined[:] = [limits]


def confined() -> Limits | None:
    """The limits of the sandbox; None without a sandbox."""
    return _confined[0] if _confined else None


class Child:
    """A context with a child process that answers questions. The child ends with the context or its parent."""

    def __init__(self, service: str, limits: Limits) -> None:
        """Start a child. `service` is the "module:function" that returns its `Service`, or empty."""
        self.limits = limits
        self._numbers = itertools.count()
        self._waiting: dict[int, SimpleQueue[Message | None]] = {}
        self._lock = threading.Lock()
        self._last_answer = time.monotonic()
        self._ended = ""  # the cause, after the end
        self._notes: deque[dict[str, Any]] = deque()
        self._process = subprocess.Popen(  # noqa: S603  # this same program
            [sys.executable, "-c", START, service, str(limits.memory), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipes = (self._process.stdin, self._process.stdout)
        for pipe in self._pipes:
            _widen(pipe.fileno())
        self._channel = Channel(self._process.stdout, self._process.stdin)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._ended and self._process.poll() is None

    def ask(self, about: str, body: dict[str, Any], arrays: Sequence[Array] = (), *, seconds: float = 0) -> Message:
        """Send a question to the service and wait for the answer. Any thread may call this.

        Errors name the file `about`. `seconds` extends the time limit. Raises ArtifactError if the child dies or sends
        no answer to any question in time, and the errors of the service.
        """
        number, box = next(self._numbers), SimpleQueue[Message | None]()
        with self._lock:
            self._waiting[number] = box
        try:
            with contextlib.suppress(OSError, ValueError):  # the child has ended, and `_listen` reports it
                while self._notes:
                    self._channel.send(Message(next(self._numbers), self._notes.popleft()))
                self._channel.send(Message(number, body, tuple(arrays)))
            if self._ended:
                box.put(None)
            answer = self._wait(box, seconds)
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if answer is None:
            raise ArtifactError(f"{about}: {self._ended}")
        if "error" in answer.body:
            self._raise(about, answer.body)
        return answer

    def call(self, function: str, path: Path) -> Any:
        """Call "module:function" with a file, and return its result of JSON types. Raises what the function raises."""
        return self.ask(str(path), {"call": function, "path": str(path)}).body["result"]

    def note(self, body: dict[str, Any]) -> None:
        """Queue a message without an answer, sent before the next question. Never blocks: `__del__` may call it."""
        self._notes.append(body)

    def close(self) -> None:
        """Kill the child. Any thread may call this, several times."""
        self._process.kill()
        self._process.wait()
        self._listener.join(_PATIENCE)  # a thread that reads while Python ends crashes the program
        for pipe in self._pipes:
            with contextlib.suppress(OSError, ValueError):  # unsent messages no longer matter
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, box: SimpleQueue[Message | None], seconds: float) -> Message | None:
        asked, patience = time.monotonic(), self.limits.seconds + seconds
        while True:
            with contextlib.suppress(Empty):
                return box.get(timeout=min(_POLL, patience))
            if time.monotonic() - max(asked, self._last_answer) > patience:
                self._ended = (
                    f"gives no answer within {patience:g} seconds, and was stopped; if this machine needs longer, give "
                    "more with --time-limit"
                )
                self._process.kill()
                return None

    def _listen(self) -> None:
        """Pass answers to the waiting threads, in a thread of its own. At the end, wake all with the cause."""
        try:
            while (message := self._channel.receive(most=self.limits.memory)) is not None:
                self._last_answer = time.monotonic()
                with self._lock:
                    box = self._waiting.get(message.number)
                if box is not None:
                    box.put(message)
        except (OSError, ValueError):
            self._process.kill()
        self._ended = self._ended or _end(self._process.wait(), self.limits)
        with self._lock:
            waiting = list(self._waiting.values())
        for box in waiting:
            box.put(None)

    def _raise(self, about: str, body: dict[str, Any]) -> NoReturn:
        member, message = vars(errors).get(body["error"]), body["message"]
        error = member if isinstance(member, type) and issubclass(member, SSHToolError) else None
        if body["out_of_memory"] and error in (ArtifactError, None):
            place = f"{about}: " if error is None else ""
            raise ArtifactError(f"{place}{message}; it may take {self.limits.memory / GIGABYTE:g} GB (--memory-limit)")
        raise RuntimeError(message) if error is None else error(message)


_shared: dict[tuple[str, Limits], Child] = {}


def shared_child(service: str, limits: Limits) -> Child:
    """The program's child for a service and limits. Starts a new one after the last has died."""
    child = _shared.get((service, limits))
    if child is None or not child.is_alive:
        if child is not None:
            child.close()
        child = _shared[service, limits] = Child(service, limits)
    return child


@atexit.register
def _close_shared() -> None:
    for child in _shared.values():
        child.close()


def _end(code: int, limits: Limits) -> str:
    cause = f"was ended by signal {-code} ({_signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
    return (
        f"the process that ran it {cause}; it may have needed more memory than the machine has, or than its limit of "
        f"{limits.memory / GIGABYTE:g} GB (--memory-limit)"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _widen(pipe: int) -> None:
    """Enlarge a pipe where possible, so that an image passes in fewer pieces."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE)
