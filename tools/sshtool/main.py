"""The start and the end of the program. It handles signals before it imports the other modules.

Two settings save a sixth of a conversion's CPU time: OpenBLAS starts no threads, which would spin without work, and
the program ends without Python's finalization.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import warnings
from typing import NoReturn

from sshtool.interruption import Interrupted, catch_signals, settle


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    try:
        _run()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        _end(end.code or 0)
    _end(0)


def _run() -> None:
    try:
        try:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            _open_standard_files()  # before opening other files
            catch_signals()
            _silence_libraries()
            # The converter that `import openvino` would import too, and that the program does not use.
            sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # stubs do not know
            from sshtool.cli.app import app

            app()
        finally:
            settle()
            _flush_or_drop_output()
    except Interrupted as stop:
        _fail(str(stop), stop.exit_code)
    except OSError as error:  # from Typer, printing help; verbs handle their own errors
        _fail(f"standard output: cannot be written ({error.strerror}); send it elsewhere", 1)


def _end(code: int) -> NoReturn:
    """End the process without Python's finalization, during which daemon threads and native libraries may crash.

    Like finalization, it waits for the other threads, calls the functions registered at exit, and flushes the output.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # ends pools too; `multiprocessing` uses it
        atexit._run_exitfuncs()  # noqa: SLF001  # as above
        _flush_or_drop_output()
    finally:
        os._exit(code)


def _open_standard_files() -> None:
    """Open closed standard files: else another file would take their number and receive the output of native code."""
    number = os.open(os.devnull, os.O_RDWR)
    while number < 3:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _silence_libraries() -> None:
    """Discard the output of libraries, which may quote a file, also in child processes.

    Native code writes to the files 1 and 2 from any thread. This function redirects both to the null device, and
    Python's streams to copies of the originals.
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
            setattr(sys, f"__{name}__", copy)  # rich and Typer read the terminal's width from it
        os.dup2(nowhere, number)
    os.close(nowhere)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _flush_or_drop_output() -> None:
    """Drop output that cannot be written: at exit, Python would print an error and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(line: str, code: int) -> None:
    from sshconvert.messages import printable

    try:
        sys.stderr.write(f"sshtool: {printable(line)}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):  # stderr is full or closed
        pass
    sys.exit(code)
