"""One run of a verb at the command line: its progress, its result, its errors, and the exit code."""

from __future__ import annotations

import json as jsonlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from sshconvert.errors import SSHToolError, VerificationError

# Of the JSON envelope. A new key does not change it; a changed meaning does.
SCHEMA_VERSION: Final = 1
INTERRUPTED: Final = 130

# Wide enough for every table, where there is no terminal to ask.
PLAIN_WIDTH: Final = 2000


class Session:
    """Context of a verb. Prints the result on stdout, everything else on stderr, and leaves by an exit code."""

    def __init__(
        self,
        verb: str,
        *,
        json: bool,
        quiet: bool,
        debug: bool,
        lines: bool = False,
        interrupted: str = "interrupted; nothing was left half done",
    ) -> None:
        """With `lines`, --json prints not one document but one a line: what `emit` is given."""
        self.interrupted = interrupted
        self.verb, self.json, self.quiet, self.debug, self.lines = verb, json, quiet, debug, lines
        self.stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        self.status = self.stderr.status("starting") if self.stderr.is_terminal and not quiet else None

    def __enter__(self) -> Session:  # noqa: PYI034  # typing.Self needs Python 3.11
        if self.status:
            self.status.start()
        return self

    def progress(self, step: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done now: a spinner that counts on a terminal, a line at its beginning elsewhere."""
        if self.status:
            # As it is: the name of a file may look like markup.
            self.status.update(Text(f"{step}: {done + 1} of {total}" if total else step))
        elif not self.quiet and not done:
            self.stderr.print(step, markup=False)

    def emit(self, body: dict[str, Any]) -> None:
        """With --json, print one of several documents, at once. The spinner makes room where both are on a terminal."""
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
        """Print the result, as JSON or as `render(result, plain)` makes it. If it did not pass, exit with `code`."""
        self._stop()
        if self.json:
            self._print_json({"ok": passed, "result": asdict(result)})
        else:
            plain = not sys.stdout.isatty()
            Console(width=PLAIN_WIDTH if plain else None, highlight=False).print(render(result, plain))
        if not passed:
            raise typer.Exit(code)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        # Who reads stdout has had enough and closed it, as `head` does: there is nobody to tell, and Typer knows.
        if error is None or isinstance(error, (typer.Exit, BrokenPipeError)):
            return
        if self.debug:
            traceback.print_exception(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            self._fail("interrupted", self.interrupted, INTERRUPTED)
        elif isinstance(error, SSHToolError):
            self._fail(type(error).__name__, str(error), error.exit_code)
        elif isinstance(error, Exception):
            self._fail("internal", f"{type(error).__name__}: {error}; this is a fault in sshtool, run with --debug", 1)

    def _fail(self, kind: str, message: str, code: int) -> None:
        line = " ".join(message.split())
        if self.json:
            self._print_json({"ok": False, "error": {"type": kind, "message": line}})
        self.stderr.print(f"sshtool {self.verb}: {line}", markup=False, style="red")
        raise typer.Exit(code)

    def _print_json(self, body: dict[str, Any]) -> None:
        document = {"schema_version": SCHEMA_VERSION, "verb": self.verb, **body}
        indent = None if self.lines else 2
        sys.stdout.write(jsonlib.dumps(document, indent=indent, default=str, allow_nan=False) + "\n")
        sys.stdout.flush()

    def _stop(self) -> None:
        if self.status:
            self.status.stop()
