"""One run of a verb: its progress, result, errors and exit code."""

from __future__ import annotations

import contextlib
import getpass
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import typer
from rich.console import RenderableType

from sshconvert.errors import OutputError, SSHToolError, VerificationError
from sshconvert.messages import printable
from sshconvert.schema import one_line
from sshtool.document import dump
from sshtool.interruption import NOTHING_LEFT, Interrupted
from sshtool.report.terminal import SafeConsole, console, lines

if TYPE_CHECKING:
    from sshtool.report.transfer import Transfer

INTERRUPTED: Final = 130

PLAIN_WIDTH: Final = 1_000_000  # of a table outside a terminal; a path may have 4096 bytes

# Hides the log records of libraries.
logging.lastResort, logging.raiseExceptions = None, False


class Session:
    """Context of a verb. It prints the result on stdout, everything else on stderr, and exits with the code."""

    def __init__(
        self,
        verb: str,
        *,
        json: bool,
        quiet: bool,
        debug: bool,
        lines: bool = False,
        events: bool = False,
        interrupted: str = NOTHING_LEFT,
    ) -> None:
        """With `lines`, `emit` prints each JSON document on one line.

        With `events`, the JSON events of a download are the only progress: on stdout, or with `json` on stderr. The
        result goes to the other stream. `interrupted` describes the files after an interruption, for its message.
        """
        self.interrupted = interrupted
        self.verb, self.json, self.quiet, self.debug, self.lines = verb, json, quiet, debug, lines
        self.events = events
        self.stderr = _stderr()
        self.status = self.stderr.status("starting") if self.stderr.is_terminal and not (quiet or events) else None
        self.transfer: Transfer | None = None

    def __enter__(self) -> Self:
        if self.status:
            self.status.start()
        return self

    def progress(self, step: str, done: int = 0, total: int = 0) -> None:
        """Show the current step: on a terminal a spinner with a count, elsewhere one line when the step begins."""
        if self.status and not self.transfer:
            self.status.update(lines(f"{step}: {done + 1} of {total}" if total else step))
        elif not (self.quiet or self.events or done):
            self._say(step)

    def transfers(self, model: str) -> Callable[..., None]:
        """A `sshtool.checkpoint.fetch.Report` that shows a bar on a terminal, lines elsewhere, or JSON events."""
        from sshtool.report.transfer import Bar, JsonEvents, Lines

        def show(event: str, /, **members: str | int) -> None:
            if self.quiet:
                return
            if self.transfer is None and self.events:
                with contextlib.nullcontext() if self.json else _stdout():
                    self.transfer = JsonEvents(sys.stderr if self.json else sys.stdout, model)
            elif self.transfer is None and event == "model_file_download_begin":
                self._stop()
                self.transfer = Bar(self.stderr) if self.status else Lines(self.stderr)
            if self.transfer:
                with _stdout() if self.events and not self.json else contextlib.suppress(OSError):
                    self.transfer.show(event, members)
            if event == "model_file_download_end" and not self.events:
                self.transfer = None
                if self.status:
                    self.status.start()

        return show

    def ask_password(self, prompt: str) -> str:
        """Ask for a password at the terminal, while the spinner pauses. Raises EOFError if the input ends."""
        self._stop()
        try:
            return getpass.getpass(prompt)
        finally:
            if self.status:
                self.status.start()

    def emit(self, body: dict[str, Any]) -> None:
        """With --json, print one of several documents. On a terminal the spinner pauses."""
        if not self.json:
            return
        self._stop()
        self._print_json(body)
        if self.status:
            self.status.start()

    def finish(
        self,
        result: Any,
        render: Callable[[Any, bool], RenderableType],
        *,
        passed: bool = True,
        code: int = VerificationError.exit_code,
    ) -> None:
        """Print the result as JSON, or as `render(result, plain)`. Exit with `code` unless it `passed`."""
        self._stop()
        if self.json:
            self._print_json({"ok": passed, "result": result})
        else:
            with _stdout():
                stream = sys.stderr if self.events else sys.stdout
                plain = not stream.isatty()
                console(file=stream, width=PLAIN_WIDTH if plain else None).print(render(result, plain))
        if not passed:
            raise typer.Exit(code)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        # A reader such as `head` closes stdout early. Typer handles that.
        if error is None or isinstance(error, (typer.Exit, BrokenPipeError)):
            return
        if self.debug:
            self._say(*"".join(traceback.format_exception(kind, error, trace)).splitlines())
        if isinstance(error, Interrupted):
            self._fail("interrupted", f"{error.reason}; {self.interrupted}", error.exit_code)
        elif isinstance(error, KeyboardInterrupt):
            self._fail("interrupted", f"interrupted; {self.interrupted}", INTERRUPTED)
        elif isinstance(error, SSHToolError):
            self._fail(type(error).__name__, str(error), error.exit_code)
        elif isinstance(error, Exception):
            self._fail(
                "internal",
                f"{type(error).__name__}: {one_line(error)}; this is a fault in sshtool, run with --debug",
                1,
            )

    def _fail(self, kind: str, message: str, code: int) -> None:
        line = printable(message)
        if self.json:
            with contextlib.suppress(OutputError):  # stderr has the message too
                self._print_json({"ok": False, "error": {"type": kind, "message": line}})
        self.stderr = _stderr()  # an interrupted console would repeat what it was writing
        self._say(f"{f'sshtool {self.verb}'.strip()}: {line}", style="red")
        raise typer.Exit(code)

    def _say(self, *messages: str, style: str = "") -> None:
        with contextlib.suppress(OSError):  # stderr is full or closed
            self.stderr.print(lines(*messages, style=style))

    def _print_json(self, body: dict[str, Any]) -> None:
        with _stdout():
            sys.stdout.write(dump(self.verb, body, indent=None if self.lines else 2))

    def _stop(self) -> None:
        if self.transfer:
            self.transfer.stop()
        if self.status:
            self.status.stop()


def _stderr() -> SafeConsole:
    return console(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def _stdout() -> Iterator[None]:
    """Write to stdout. Raises OutputError if it is closed or full, BrokenPipeError if its reader has closed it."""
    cannot = "standard output: cannot be written ({}); send it elsewhere"
    if sys.stdout is None:
        raise OutputError(cannot.format("it is closed"))
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(cannot.format(error.strerror)) from error
