"""Progress of a download: a bar on a terminal, lines in a log, or Open Model Zoo's JSON events."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, Protocol, TextIO

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.messages import printable
from sshtool.document import plain

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sshtool.report.terminal import SafeConsole

# Seconds between two lines.
INTERVAL: Final = 5.0


# A line of Open Model Zoo's progress format. The name of an event decides which optional members it has.
Event = TypedDict(
    "Event",
    {
        "$type": Literal[
            "model_download_begin",
            "model_download_end",
            "model_file_download_begin",
            "model_file_download_progress",
            "model_file_download_end",
            "model_postprocessing_begin",
            "model_postprocessing_end",
        ],
        "model": str,
        "num_files": NotRequired[int],
        "model_file": NotRequired[str],
        "size": NotRequired[int],
        "successful": NotRequired[bool],
    },
)


class Transfer(Protocol):
    """Shows the events that `sshtool.checkpoint.fetch` reports."""

    def show(self, event: str, members: dict[str, Any]) -> None: ...

    def stop(self) -> None:
        """Restore the terminal."""
        return


class JsonEvents(Transfer):
    """Open Model Zoo's progress format: one JSON object a line, with the event's name as "$type"."""

    def __init__(self, stream: TextIO, model: str) -> None:
        self._stream, self._model = stream, model

    def show(self, event: str, members: dict[str, Any]) -> None:
        self._stream.write(json.dumps(plain({"$type": event, "model": self._model, **members})) + "\n")
        self._stream.flush()


class Lines(Transfer):
    """Writes the progress, the rate and the remaining time to a log."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console
        self._size = 0
        self._began: tuple[float, int] | None = None
        self._last = 0.0

    def show(self, event: str, members: dict[str, Any]) -> None:
        if event == "model_file_download_begin":
            self._size, self._began = members["size"], None
        elif event == "model_file_download_progress":
            self._line(members["size"], time.monotonic())

    def _line(self, size: int, now: float) -> None:
        if self._began is None or size < self._began[1]:  # bytes of an earlier download do not count in the rate
            self._began, self._last = (now, size), now
        seconds, received = now - self._began[0], size - self._began[1]
        if now - self._last >= INTERVAL and received:
            self._last = now
            rate, left = received / seconds, (self._size - size) * seconds / received
            self._console.print(
                f"{size / 1e6:.1f} of {self._size / 1e6:.1f} MB, {rate / 1e6:.2f} MB/s, {left:.0f} s remaining"
            )


class Bar(Transfer):
    """Draws a bar on a terminal."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._size = self._total = 0

    def show(self, event: str, members: dict[str, Any]) -> None:
        if event == "model_file_download_begin":
            self._start(members["model_file"], members["size"])
        elif event == "model_file_download_progress":
            self._update(members["size"])
        elif event == "model_file_download_end":
            self.stop()

    def _start(self, name: str, total: int) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task, self._size, self._total = self._bar.add_task(printable(name), total=total, start=False), -1, total
        self._bar.start()

    def _update(self, size: int) -> None:
        if self._bar is None or self._task is None:
            return
        if size < self._size or self._size < 0:  # bytes of an earlier download do not count in the rate
            self._bar.reset(self._task, total=self._total, completed=size)
        else:
            self._bar.update(self._task, completed=size)
        self._size = size

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
