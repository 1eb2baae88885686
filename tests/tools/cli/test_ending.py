"""The end of the program: the exit code is the verb's, whatever the end of the interpreter would do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.independent

# Each ends a Python process by a signal after all its work is done, on any system that has them.
CRASHES: Final = {
    "a thread": """
threading.Thread(target=sys.stdin.buffer.readline, daemon=True).start()
time.sleep(0.2)  # until it reads
""",
    "a destructor": """
class Last:
    def __del__(self, abort=os.abort):
        abort()
sys.last = Last()
""",
    "a library": """
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.abort, None, None)
""",
}

IMPORTS: Final = "import atexit, ctypes, os, sys, tempfile, threading, time, weakref\n"

RUN: Final = """
sys.argv[0] = "sshtool"
import sshtool.__main__
"""

# `verb` replaces the command line.
REPLACED: Final = """
from sshtool import main
from sshtool.cli import app as cli
cli.app = verb
main.main()
"""


def end_of(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python code. Its stdin stays open, as a terminal's does."""
    command = [sys.executable, "-c", IMPORTS + code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        stdout, stderr = process.stdout.read(), process.stderr.read()
        return subprocess.CompletedProcess(command, process.wait(), stdout, stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="the library is that of Linux")
@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_a_crash_at_the_end_of_the_interpreter_changes_no_exit_code(crash: str, tmp_path: Path) -> None:
    assert end_of(crash).returncode < 0
    for code, arguments in ((0, ["--version"]), (1, ["info", "-o", str(tmp_path)]), (2, ["info", "--unknown"])):
        result = end_of(crash + RUN, *arguments)
        assert result.returncode == code, result.stderr
        assert (result.stdout if code == 0 else result.stderr).count("\n") == 1


def test_the_end_waits_for_threads_and_runs_what_is_registered() -> None:
    verb = """
class Kept: pass
kept = Kept()
weakref.finalize(kept, print, "finalizer", flush=True)
temporary = tempfile.TemporaryDirectory()
atexit.register(print, "registered")
def verb():
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(1)  # is not shut down
    pool.submit(lambda: (time.sleep(0.3), print("pool")))
    threading.Thread(target=lambda: (time.sleep(0.6), print("thread"))).start()
    print(temporary.name)
    sys.exit(3)
"""
    result = end_of(verb + REPLACED)
    folder, *lines = result.stdout.splitlines()
    assert lines == ["pool", "thread", "registered", "finalizer"]
    assert not Path(folder).exists()
    assert (result.returncode, result.stderr.count("Error")) == (3, 0), result.stderr


@pytest.mark.parametrize(
    ("act", "code", "stderr"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(True)", 1, ""),
        ("sys.exit('a reason')", 1, "a reason"),
        ("raise ValueError('a fault')", 1, "ValueError: a fault"),
    ],
)
def test_the_exit_code_is_that_of_python(act: str, code: int, stderr: str) -> None:
    result = end_of(f"def verb():\n    print('a result', end='')\n    {act}\n{REPLACED}")
    assert (result.returncode, result.stdout) == (code, "a result")
    assert result.stderr.strip().split("\n")[-1] == stderr
