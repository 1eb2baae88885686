"""Runs what a stranger made in a process of its own, with limits on memory and time.

Screening is an allow-list and no proof. A model that takes more than the limits, or crashes its runtime, ends that
process alone, and the caller gets an ArtifactError.
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

# With the parent's path, before anything is imported: `-c` alone would look into the current folder first.
START: Final = "import sys; sys.path[:] = sys.argv[3:]; from sshtool.sandbox.child import main; main()"

# As large as Linux lets a pipe be for anybody.
_PIPE: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031
_POLL: Final = 0.5  # seconds


def usual_memory() -> int:
    """The default memory limit of a child: 8 GB, or half of the machine's if that is more; in bytes."""
    try:
        return max(8 * GIGABYTE, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 * GIGABYTE


@dataclass(frozen=True)
class Limits:
    """What a child may take: bytes of memory for its data (Linux keeps to that), and seconds without an answer."""

    memory: int = field(default_factory=usual_memory)
    seconds: float = 300.0


_confined: list[Limits] = []


def confine(limits: Limits) -> None:
    """From now on, what a stranger made runs in the sandbox: the command line says so, a library's user may."""
    _confined[:] = [limits]


def confined() -> Limits | None:
    """The limits of the sandbox; None if there is none."""
    return _confined[0] if _confined else None


class Child:
    """A context: a process that answers. It is killed at the end, and ends when its parent does."""

    def __init__(self, service: str, limits: Limits) -> None:
        """`service` is the "module:function" that makes the `Service` (`sshtool.sandbox.child`), or empty."""
        self.limits = limits
        self._numbers = itertools.count()
        self._waiting: dict[int, SimpleQueue[Message | None]] = {}
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self._ended = ""  # how, once it has
        self._notes: deque[dict[str, Any]] = deque()
        self._process = subprocess.Popen(  # noqa: S603  # this same program
            [sys.executable, "-c", START, service, str(limits.memory), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe.fileno())
        self._channel = Channel(self._process.stdout, self._process.stdin)
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._ended and self._process.poll() is None

    def ask(self, about: str, body: dict[str, Any], arrays: Sequence[Array] = (), *, seconds: float = 0) -> Message:
        """Have something done, and wait; several threads may. `about` is the file that errors name.

        Silence may last `seconds` longer than the limit. Raises ArtifactError if the child dies or is silent for
        longer, and what its service raises.
        """
        number, box = next(self._numbers), SimpleQueue[Message | None]()
        with self._lock:
            self._waiting[number] = box
        try:
            with contextlib.suppress(OSError, ValueError):  # then it has ended, which the other thread notices
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
        """Have "module:function" read a file, and return its result, which JSON can hold. Raises what it raises."""
        return self.ask(str(path), {"call": function, "path": str(path)}).body["result"]

    def note(self, body: dict[str, Any]) -> None:
        """Tell it something before the next question, without an answer. Waits for nothing, so that `__del__` may."""
        self._notes.append(body)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):  # what it was to be told is of no use any more
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
            if time.monotonic() - max(asked, self._heard) > patience:
                self._ended = (
                    f"gives no answer within {patience:g} seconds, and was stopped; if that is not much for it on this "
                    "machine, give more with --time-limit"
                )
                self._process.kill()
                return None

    def _listen(self) -> None:
        """In a thread: hand out the answers until there are no more, and say how it ended to all that still wait."""
        try:
            while (message := self._channel.receive(most=self.limits.memory)) is not None:
                self._heard = time.monotonic()
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
        found, message = vars(errors).get(body["error"]), body["message"]
        kind = found if isinstance(found, type) and issubclass(found, SSHToolError) else None
        if body["out_of_memory"] and kind in (ArtifactError, None):
            where = f"{about}: " if kind is None else ""
            raise ArtifactError(f"{where}{message}; it may take {self.limits.memory / GIGABYTE:g} GB (--memory-limit)")
        raise RuntimeError(message) if kind is None else kind(message)


_shared: dict[tuple[str, Limits], Child] = {}


def shared_child(service: str, limits: Limits) -> Child:
    """The child that this program shares for a service under the same limits; a new one if the last has died."""
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
    what = f"ended with exit code {code}"
    if code < 0:
        what = f"was ended by signal {-code} ({_signal_name(-code)})"
    return (
        f"the process that ran it {what}; it may have taken more memory than there is, or than its "
        f"{limits.memory / GIGABYTE:g} GB (--memory-limit)"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _widen(pipe: int) -> None:
    """Where that is possible, so that an image goes through in fewer pieces."""
    try:
        import fcntl

        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE)
    except (ImportError, OSError):
        pass
