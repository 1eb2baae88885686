"""Signals that end the program (Ctrl-C, SIGTERM, a closed terminal): a verb stops soon and leaves no partial files.

The first signal raises `Interrupted` in the main thread. Later ones have no effect and do not disturb the cleanup.
Python runs handlers only between its own instructions, not during native code. Therefore the signal also wakes a
thread, through a pipe. If the program has not ended after `GRACE` seconds, the thread cleans up and ends it.

This module imports little, because it runs first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

# The signals that end a program and can be handled, if the system has them.
_REASONS: Final = {
    "SIGINT": "interrupted",
    "SIGTERM": "terminated",
    "SIGHUP": "the terminal was closed",
    "SIGQUIT": "told to quit",
    "SIGXCPU": "out of the time that a process may take here (ulimit -t)",
}
SIGNALS: Final = {signal.Signals[name]: reason for name, reason in _REASONS.items() if hasattr(signal, name)}
NOTHING_LEFT: Final = "nothing was left half done"
GRACE: Final = 2.0
SHOW_CURSOR: Final = "\x1b[?25h"  # a spinner hides it

_first = threading.Event()
_settled = threading.Event()
_told = threading.Event()  # the first signal was for `_ends`
_ends: list[threading.Event] = []  # of `ended_by_signal`


class Interrupted(BaseException):  # like KeyboardInterrupt, but no library catches it
    """A signal asks the program to end. The message is the line to print."""

    def __init__(self, number: int) -> None:
        self.reason = SIGNALS[signal.Signals(number)]
        super().__init__(f"{self.reason}; {NOTHING_LEFT}")
        self.exit_code = 128 + number


def catch_signals() -> None:
    """Handle the signals from now on, except those that the parent process set to be ignored."""
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if sys.platform != "win32":  # there a signal cannot write to a pipe
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    for number in caught:
        signal.signal(number, _interrupt)


@contextlib.contextmanager
def ended_by_signal() -> Iterator[threading.Event]:
    """Yield an event that the first signal during the block sets, for work without an end of its own, as of a camera.

    A second signal raises `Interrupted`.
    """
    end = threading.Event()
    _ends.append(end)
    try:
        yield end
    finally:
        _ends.remove(end)


def settle() -> None:
    """Ignore signals at the end of the program, and clean up after one that interrupted the cleanup."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _settled.set()
    _clean_up()


def _interrupt(number: int, _: FrameType | None) -> None:
    if _ends and not _told.is_set():
        _told.set()
        _ends[-1].set()
    elif not _first.is_set():
        _first.set()
        raise Interrupted(number)


def _watch(reader: int) -> None:
    number = os.read(reader, 1)[0]
    if _ends:  # `_interrupt` sets the event, or this thread while native code runs
        _ends[-1].set()
        number = os.read(reader, 1)[0]
    if _settled.wait(GRACE):
        return
    stop = Interrupted(number)
    try:
        _clean_up()
        stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
        cursor = SHOW_CURSOR if os.isatty(stderr) else ""
        if not _settled.is_set():  # set if the program ended in time and printed its own line
            os.write(stderr, f"{cursor}sshtool: {stop}\n".encode())
    finally:
        os._exit(stop.exit_code)


def _clean_up() -> None:
    files = sys.modules.get("sshconvert.files")  # without it, the program has written no files
    if files is not None:
        files.remove_staging()
