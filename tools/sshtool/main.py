"""Where the program begins. Signals are caught before anything else is imported.

Two things here are for cost alone, a sixth of the CPU time of a conversion: NumPy's library of linear algebra, which
has next to nothing to do here, starts no threads, which would wait for work in a loop; and what Python looks through
for garbage when it ends, it leaves alone, since the process ends too.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from sshtool.interruption import Interrupted, catch_signals, settle


def main() -> None:
    """Run the command line and leave by its exit code."""
    try:
        try:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            catch_signals()
            _open_standard_files()
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
            from sshtool.cli import app

            app()
        finally:
            settle()
            _drop_what_cannot_be_written()
            gc.freeze()
    except Interrupted as stop:
        _fail(str(stop), stop.exit_code)
    except OSError as error:  # verbs see to their own; this is Typer, printing help
        _fail(f"standard output: cannot be written ({error.strerror}); send it elsewhere", 1)


def _open_standard_files() -> None:
    """If one is closed, the next file that is opened would take its number, and get what native code prints."""
    number = os.open(os.devnull, os.O_RDWR)
    while number < 3:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _drop_what_cannot_be_written() -> None:
    """Python tries once more when it ends, complains in lines of its own, and leaves by another exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # there are two
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(line: str, code: int) -> None:
    from sshconvert.messages import printable

    try:
        sys.stderr.write(f"sshtool: {printable(line)}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):  # full or closed: there is nobody to tell
        pass
    sys.exit(code)
