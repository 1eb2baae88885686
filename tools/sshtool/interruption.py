"""Ctrl-C, SIGTERM, a terminal that is closed: a verb ends soon and once, and leaves nothing half done.

The first signal raises `Interrupted` in the main thread, wherever that is. Later ones change nothing, so that nothing
disturbs the cleaning up. Python runs its handlers only between two of its own instructions: while native code computes,
nothing is raised. So a thread watches, which the signal wakes through a pipe. If the program has not come to its end
after `GRACE` seconds, the thread cleans up and ends it.

Imports next to nothing: it comes before everything else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

# All that end a program from outside and let it clean up, where the system has them.
_WORDS: Final = {
    "SIGINT": "interrupted",
    "SIGTERM": "terminated",
    "SIGHUP": "the terminal was closed",
    "SIGQUIT": "told to quit",
    "SIGXCPU": "out of the time that a process may take here (ulimit -t)",
}
SIGNALS: Final = {signal.Signals[name]: what for name, what in _WORDS.items() if hasattr(signal, name)}
NOTHING_LEFT: Final = "nothing was left half done"
GRACE: Final = 2.0
SHOW_CURSOR: Final = "\x1b[?25h"  # a spinner hides it

_first = threading.Event()
_settled = threading.Event()


class Interrupted(BaseException):  # no error: as KeyboardInterrupt, but no library catches it
    """The user, or the system, wants the program to end. The message is the line to print."""

    def __init__(self, number: int) -> None:
        self.what = SIGNALS[signal.Signals(number)]
        super().__init__(f"{self.what}; {NOTHING_LEFT}")
        self.exit_code = 128 + number


def catch_signals() -> None:
    """From now on the signals end the program as said above, apart from those that its parent had it ignore."""
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if os.name == "posix":  # elsewhere a signal cannot write to a pipe
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    for number in caught:
        signal.signal(number, _interrupt)


def settle() -> None:
    """The program has come to its end: signals change nothing any more.

    What one of them kept from being cleaned up is cleaned up now.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _settled.set()
    _clean_up()


def _interrupt(number: int, _: FrameType | None) -> None:
    if not _first.is_set():
        _first.set()
        raise Interrupted(number)


def _watch(reader: int) -> None:
    number = os.read(reader, 1)[0]
    if _settled.wait(GRACE):
        return
    stop = Interrupted(number)
    try:
        _clean_up()
        stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
        cursor = SHOW_CURSOR if os.isatty(stderr) else ""
        if not _settled.is_set():  # it is, if the program ended just in time, and has said so
            os.write(stderr, f"{cursor}sshtool: {stop}\n".encode())
    finally:
        os._exit(stop.exit_code)


def _clean_up() -> None:
    files = sys.modules.get("sshconvert.files")  # if it was not imported, nothing was written
    if files is not None:
        files.remove_staging()
