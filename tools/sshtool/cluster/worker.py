"""A worker's side: it keeps the model, and computes partitions. This module needs Dask."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Reschedule, WorkerPlugin, get_worker

from sshconvert import __version__
from sshconvert.errors import ClusterError, SSHToolError
from sshtool.cluster.work import Opened, Work
from sshtool.sandbox import Limits, confine


@dataclass(frozen=True)
class Partition:
    """The results of a partition's items, in their order, and the seconds it took."""

    results: list[Any]
    seconds: float


class Model(WorkerPlugin):  # type: ignore[misc]  # Dask ships no types
    """The work and its artifact, which the scheduler gives to each worker that comes. A worker loads it once."""

    def __init__(self, name: str, work: Work[Any, Any], files: Mapping[str, bytes], limits: Limits | None) -> None:
        self.name, self._work, self._files, self._limits = name, work, files, limits
        self._opened: Opened[Any, Any] | None = None
        self._folder: Path | None = None

    def setup(self, worker: Any) -> None:
        self._address, self._threads = worker.address, worker.state.nthreads
        self._place = Path(worker.local_directory)
        self._lock = threading.Lock()

    def teardown(self, worker: Any) -> None:
        self._close()

    def compute(self, items: Sequence[Any]) -> Partition:
        start = time.monotonic()
        try:
            results = self._open().compute(items)
        except SSHToolError as error:
            message = self._named(str(error))
            self._close()  # its process may have ended; the next partition begins anew
            raise type(error)(message) from None
        except OSError as error:
            self._close()
            raise ClusterError(
                f"worker {self._address}: cannot keep the model ({error.strerror or error}); free space in its folder"
            ) from None
        return Partition(results, time.monotonic() - start)

    def _open(self) -> Opened[Any, Any]:
        with self._lock:
            if self._opened is None:
                if self._limits is not None:
                    confine(self._limits)
                self._folder = folder = Path(tempfile.mkdtemp(prefix="sshtool-", dir=self._place))
                for name, data in self._files.items():
                    (folder / name).write_bytes(data)
                opened = self._work.open(folder / self._work.artifact.name, self._threads)
                if opened.computer != self._work.computer:
                    raise ClusterError(
                        f"worker {self._address}: computes with {opened.computer}, and this machine with "
                        f"{self._work.computer}; install the same on all"
                    )
                self._opened = opened
            return self._opened

    def _close(self) -> None:
        with self._lock:
            folder, self._folder, self._opened = self._folder, None, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _named(self, message: str) -> str:
        """A message with the client's name of the artifact."""
        return message if self._folder is None else message.replace(str(self._folder), str(self._work.artifact.parent))


def compute(name: str, version: str, items: Sequence[Any]) -> Partition:
    """Compute a partition on the worker that runs this function, for a client of this version of sshtool."""
    worker = get_worker()
    if version != __version__:
        raise ClusterError(
            f"worker {worker.address}: has sshtool {__version__}, and the client {version}; install the same on all"
        )
    model = worker.plugins.get(name)
    if model is None:  # the worker has come, and its model is on the way
        time.sleep(0.1)
        raise Reschedule
    result: Partition = model.compute(items)
    return result
