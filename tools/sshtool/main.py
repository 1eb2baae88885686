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
import warnings

from sshtool.interruption import Interrupted, catch_signals, settle


def main() -> None:
    """Run the command line and leave by its exit code."""
    try:
        try:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            _open_standard_files()  # before anything else is opened
            catch_signals()
            _silence_libraries()
            from sshtool.cli.app import app

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


def _silence_libraries() -> None:
    """What libraries print is not for the user, and may quote a file: from now on it goes nowhere.

    Native code writes on the files 1 and 2, from any thread and at any time. So these lead nowhere, for child processes
    too, and Python's streams write on copies, which nothing but this program's own lines reach.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            copy = io.TextIOWrapper(
                open(os.dup(number), "wb"),  # noqa: SIM115, PTH123  # for as long as the program runs
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, copy)
            setattr(sys, f"__{name}__", copy)  # by which rich and Typer ask how wide the terminal is
        os.dup2(nowhere, number)
    os.close(nowhere)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


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
