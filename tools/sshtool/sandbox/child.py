"""The process in the sandbox: answers what it is asked, several things at a time, until its parent ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from sshconvert.arrays import Array
from sshconvert.errors import SSHToolError
from sshtool.sandbox.channel import Channel, Message

# As many as may be asked at once; the parent asks no more than a runtime can do.
MOST_THREADS: Final = 2048
_DIE_WITH_PARENT: Final = 1  # prctl's PR_SET_PDEATHSIG

Answer = tuple[dict[str, Any], list[Array]]


class Service(Protocol):
    """What a child does. Any thread may call it."""

    def __call__(self, body: dict[str, Any], arrays: tuple[Array, ...]) -> Answer: ...


def main() -> None:
    """Of the process: `sys.argv` holds the service, and how much memory its data may take."""
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):  # they are for the one who started this, and ends it
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _die_with_parent()
    _limit_memory(int(sys.argv[2]))
    questions, answers = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # what libraries print goes nowhere
        os.dup2(nowhere, number)
    serve(Channel(questions, answers), function_of(sys.argv[1])() if sys.argv[1] else None)
    os._exit(0)  # whatever still computes


def function_of(name: str) -> Any:
    """The function of this program that is called "module:function"."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def serve(channel: Channel, service: Service | None) -> None:
    with contextlib.suppress(OSError):  # the parent has ended
        pool = ThreadPoolExecutor(MOST_THREADS)
        while (question := channel.receive()) is not None:
            pool.submit(_answer, channel, service, question)


def _answer(channel: Channel, service: Service | None, question: Message) -> None:
    body: dict[str, Any] = {}
    arrays: list[Array] = []
    try:
        if "call" in question.body:
            body = {"result": function_of(question.body["call"])(Path(question.body["path"]))}
        elif service:
            body, arrays = service(question.body, question.arrays)
    except SSHToolError as error:
        body = _error(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  # the parent says what it is
        body = _error("", f"{type(error).__name__}: {error}")
    with contextlib.suppress(OSError):
        channel.send(Message(question.number, body, tuple(arrays)))


def _error(kind: str, message: str) -> dict[str, Any]:
    """Every library has words of its own for too little memory."""
    words = message.casefold()
    return {"error": kind, "message": message, "out_of_memory": "alloc" in words or "memory" in words}


def _limit_memory(limit: int) -> None:
    """Data are what a process allocates, touched or not: of files that are mapped, nothing counts."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit <= hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, ValueError):  # Windows has none
        pass


def _die_with_parent() -> None:
    """At once, also while native code computes. Elsewhere than on Linux, the end of the questions has to do."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
