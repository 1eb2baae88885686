"""The child process of the sandbox: it answers several questions at a time, until its parent ends."""

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

# Above the number of questions at a time: the parent asks at most as many as a runtime computes.
MOST_THREADS: Final = 2048
_DIE_WITH_PARENT: Final = 1  # prctl's PR_SET_PDEATHSIG

Answer = tuple[dict[str, Any], list[Array]]


class Service(Protocol):
    """A child's service. Any thread may call it."""

    def __call__(self, body: dict[str, Any], arrays: tuple[Array, ...]) -> Answer: ...


def main() -> None:
    """Run the process. `sys.argv` holds the service and the memory limit in bytes."""
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):  # the parent handles them and ends this process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _die_with_parent()
    _limit_memory(int(sys.argv[2]))
    questions, answers = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # discard the output of libraries
        os.dup2(null, number)
    serve(Channel(questions, answers), function_of(sys.argv[1])() if sys.argv[1] else None)
    os._exit(0)  # even if a thread still computes


def function_of(name: str) -> Any:
    """Import a function of this program by "module:function"."""
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
    except Exception as error:  # noqa: BLE001  # the parent raises it again
        body = _error("", f"{type(error).__name__}: {error}")
    with contextlib.suppress(OSError):
        channel.send(Message(question.number, body, tuple(arrays)))


def _error(name: str, message: str) -> dict[str, Any]:
    """The answer for an error. The message shows a lack of memory, which libraries report by different errors."""
    text = message.casefold()
    return {"error": name, "message": message, "out_of_memory": "alloc" in text or "memory" in text}


def _limit_memory(limit: int) -> None:
    """Limit the allocated memory, used or not. Mapped files do not count. Windows has no such limit."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if hard == resource.RLIM_INFINITY or limit <= hard:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _die_with_parent() -> None:
    """End with the parent, even during native code. On systems other than Linux, the end of the questions ends it."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
