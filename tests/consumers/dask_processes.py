"""Dask clusters of real processes, and the program beside them with Dask within its reach."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

from environments import SCRIPTS
from project import ROOT

VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
PATIENCE: Final = 120.0  # seconds


def variables(python: Path, **more: str) -> dict[str, str]:
    """The environment of a process of this interpreter with the packages of another environment of its version."""
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    places = (packages, ROOT / "convert", ROOT / "tools")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), **more}


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


class Processes:
    """Processes that end with the context. `folder` receives what they log."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder
        self._stack = ExitStack()
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, *command: object, log: str, most_bytes: int = 0, more: Mapping[str, str] | None = None, **pipes: Any
    ) -> subprocess.Popen[str]:
        """Start Python with arguments. It can write files of at most `most_bytes`, as on a full disk."""

        def limit() -> None:
            if most_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        stderr: IO[str] = self._stack.enter_context((self.folder / log).open("w", encoding="utf-8"))
        process = subprocess.Popen(  # the tests start no threads that matter to the child
            [sys.executable, *map(str, command)],
            env=variables(self.python, **(more or {})),
            cwd=self.folder,
            text=True,
            stderr=stderr,
            preexec_fn=limit,  # noqa: PLW1509  # no thread of the tests matters to it
            **{"stdout": stderr, **pipes},
        )
        self._started.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            _end(process)
        self._stack.close()


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class LocalCluster(Processes):
    """Dask's LocalCluster of worker processes, each with a nanny that starts it again."""

    def __init__(self, python: Path, folder: Path, workers: int = 2, *, more: Mapping[str, str] | None = None) -> None:
        super().__init__(python, folder)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = self.start(SCRIPTS / "local_cluster.py", workers, log="cluster.log", more=more, **pipes)
        self.address = self._answer()

    def signal(self, name: str, worker: int) -> int:
        """Send a signal to the process of a worker, and give its number."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {worker}\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Cluster(Processes):
    """A scheduler and workers without nannies, each started by Dask's own commands."""

    def __init__(self, python: Path, folder: Path) -> None:
        super().__init__(python, folder)
        self._port = free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"

    def scheduler_file(self) -> Path:
        """The file in which the scheduler wrote its address."""
        path = self.folder / "scheduler.json"
        until(path.exists, "the scheduler's file")
        return path

    def scheduler(self) -> subprocess.Popen[str]:
        options = ("--host", "127.0.0.1", "--port", self._port, "--no-dashboard", "--scheduler-file", "scheduler.json")
        return self.start("-m", "distributed.cli.dask_scheduler", *options, log="scheduler.log")

    def worker(self, name: str = "worker", **limits: Any) -> subprocess.Popen[str]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", self.folder / name)
        return self.start("-m", "distributed.cli.dask_worker", self.address, *options, log=f"{name}.log", **limits)
