"""Runs a part of a test in a new process with little memory, and with little time for each step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from project import SUPPORT, TESTS

SLOWEST: Final = 2.0  # seconds for one hostile file
ALLOWANCE: Final = 64 << 20  # bytes, besides three times the file


def run_limited(call: str, *, seconds: float = 600) -> str:
    """Evaluate `call`, such as "test_archive:mutate(5000)", in a new process. Returns its result, as text.

    The test fails if it raises, is killed or crashes, or takes longer than that.
    """
    module, _, expression = call.partition(":")
    script = f"import {module}; print({module}.{expression})"
    path = os.pathsep.join([str(folder) for folder in (*folders_of(module), SUPPORT)] + sys.path)
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds,
    )
    assert result.returncode == 0, f"{call}: exit code {result.returncode}\n{result.stdout}\n{result.stderr[-5000:]}"
    return result.stdout


def folders_of(module: str) -> list[Path]:
    return [path.parent for path in TESTS.rglob(f"{module}.py")]


def allow(largest_file: int) -> None:
    """Limit this process to its present memory, three times that many bytes, and `ALLOWANCE`."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + 3 * largest_file + ALLOWANCE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """An empty folder in memory, for thousands of files."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder in it gets a name of its own
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@contextmanager
def timed(what: object) -> Iterator[None]:
    """Fail if the block takes more CPU seconds than `SLOWEST`."""
    began = time.process_time()
    yield
    taken = time.process_time() - began
    assert taken <= SLOWEST, f"{what}: {taken:.1f} s"
