"""The client's side: partitions go to the workers, and results come back in order, in bounded memory.

A partition is computed again if its worker ends, if it takes far longer than others, or after the scheduler was
restarted. Its results count once. So no item is lost, and none counts twice.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
import time
import uuid
from asyncio import CancelledError as AsyncioCancelledError
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sshconvert import __version__
from sshconvert.errors import ArtifactError, ClusterError, SSHToolError, UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.libraries import DISTRIBUTED, importing, require
from sshconvert.reading import is_file
from sshconvert.schema import one_line
from sshtool.cluster.work import Work
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.sandbox import confined

Item = TypeVar("Item")
Done = TypeVar("Done")

# Items of a partition: a few at first, later as many as a worker computes in `_PARTITION_SECONDS`. A worker that ends
# loses at most its partitions.
_FIRST: Final = 4
_MOST: Final = 64
_PARTITION_SECONDS: Final = 2.0
# Partitions for each thread of the cluster that are computed, wait for a worker, or wait for an earlier one.
_AHEAD: Final = 4
_LEAST_AHEAD: Final = 8

_RETRIES: Final = 2  # after an error on a worker, perhaps elsewhere
_POLL: Final = 1.0  # seconds between looks at the cluster while a partition is awaited
# The oldest partition goes to another worker, too, after this time and this multiple of the usual time of partitions.
_STRAGGLING_SECONDS: Final = 15.0
_STRAGGLING: Final = 5.0
START: Final = 30.0  # seconds until a scheduler has to answer
PATIENCE: Final = 600.0  # seconds without any worker, and without the scheduler after it has answered
_CONNECTION_SECONDS: Final = 10.0
_RECENT: Final = 50  # partitions whose times are kept

# Raised by calls of a client whose scheduler has gone.
_LOST: Final = (OSError, TimeoutError, CancelledError, AsyncioCancelledError)


@dataclass
class Summary:
    """What a cluster did: the most workers at a time, the partitions, and those that were computed again."""

    workers: int = 0
    partitions: int = 0
    repeated: int = 0
    restarts: int = 0  # of the scheduler


@dataclass
class _Part(Generic[Item]):
    """A partition: its items, its number, and the futures of its computation, of which one is enough."""

    number: float
    items: list[Item]
    futures: list[Any] = field(default_factory=list)
    begun: float = 0.0


class Cluster:
    """A Dask cluster, by the address of its scheduler or the JSON file in which the scheduler wrote its address."""

    def __init__(self, address: str, settings: Settings, progress: Progress = silent) -> None:
        """Raises RuntimeUnavailableError without Dask, and UsageError if the settings give a number of threads."""
        if settings.threads:
            raise UsageError(
                "--threads: a worker computes with the threads that Dask gives it (`dask worker --nthreads`); leave it "
                "out with --scheduler"
            )
        require(DISTRIBUTED)
        self.address, self.summary = address, Summary()
        self.progress = progress

    def each(self, work: Work[Item, Done], items: Iterable[Item]) -> Generator[Done, None, None]:
        """Yield the result of each item, in order. Takes items when workers need them.

        Closing the generator cancels what is not done. Raises ClusterError if the cluster cannot be reached or fails,
        and the errors of the work.
        """
        run = _Run(self, work, items)
        try:
            yield from run.results()
        finally:
            run.close()


class _Run(Generic[Item, Done]):
    """One run of work on a cluster."""

    def __init__(self, cluster: Cluster, work: Work[Item, Done], items: Iterable[Item]) -> None:
        self._cluster, self._work, self._source = cluster, work, iter(items)
        self._name = f"sshtool-{uuid.uuid4().hex}"
        self._parts: deque[_Part[Item]] = deque()
        self._numbers, self._attempts = count(), count()
        self._times: deque[float] = deque(maxlen=_RECENT)
        self._size, self._threads, self._looked = _FIRST, 0, 0.0
        self._client: Any = None

    def results(self) -> Iterator[Done]:
        self._connect(START)
        while True:
            self._fill()
            if not self._parts:
                return
            yield from self._first()

    def close(self) -> None:
        """Cancel all that is not done, and remove the model from the workers."""
        client, self._client = self._client, None
        if client is None:
            return
        futures = [future for part in self._parts for future in part.futures]
        self._parts.clear()

        def end() -> None:
            client.cancel(futures, force=True)
            client.unregister_worker_plugin(self._name)

        with contextlib.suppress(Exception, AsyncioCancelledError):  # the cluster may be gone
            _limited(end)
        with contextlib.suppress(Exception, AsyncioCancelledError):
            client.close(timeout=_CONNECTION_SECONDS)

    # --- the connection ---

    def _connect(self, patience: float) -> None:
        """Reach the scheduler, and give it the model for the workers."""
        self._cluster.progress(f"connecting to {self._cluster.address}")
        deadline = time.monotonic() + patience
        while True:
            try:
                self._client = self._new_client()
                self._ship()
                break
            except _LOST as error:
                self._drop_client()
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{self._cluster.address}: no scheduler of Dask answers ({one_line(error) or 'time ran out'}); "
                        "start one with `dask scheduler`, and name its address"
                    ) from None
                time.sleep(_POLL)
        self._threads, self._looked = 0, 0.0

    def _new_client(self) -> Any:
        with importing(DISTRIBUTED):
            import distributed
        _silence()
        address = self._cluster.address
        place = {"address": address}
        if "://" not in address and is_file(Path(address)):
            place = {"scheduler_file": address}
        try:
            return distributed.Client(**place, timeout=_CONNECTION_SECONDS, set_as_default=False, name="sshtool")
        except _LOST:
            raise
        except Exception as error:  # noqa: BLE001  # an address, a file or a version that Dask refuses
            raise ClusterError(
                f"{address}: Dask cannot connect ({one_line(error)}); name the scheduler's address, such as "
                "tcp://host:8786, or the JSON file that it wrote"
            ) from None

    def _ship(self) -> None:
        from sshtool.cluster.worker import Model

        client, model = self._client, Model(self._name, self._work, _contents(self._work.artifact), confined())
        try:
            _limited(lambda: client.register_plugin(model))  # a worker that stands still gets it when it goes on
        except (*_LOST, SSHToolError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever a worker raises
            raise ClusterError(
                f"{self._cluster.address}: a worker cannot take the work ({one_line(error)}); install the same sshtool "
                "on all"
            ) from None

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception, AsyncioCancelledError):
                client.close(timeout=1)

    def _reconnect(self) -> None:
        """Begin with another scheduler: send all partitions again."""
        self._cluster.summary.restarts += 1
        self._drop_client()
        self._connect(PATIENCE)
        for part in self._parts:
            part.futures.clear()
            self._submit(part)

    # --- partitions ---

    def _fill(self) -> None:
        with self._connected():
            self._look()
        most = max(_LEAST_AHEAD, _AHEAD * self._threads)
        while len(self._parts) < most and (items := list(islice(self._source, self._size))):
            part = _Part(next(self._numbers), items)
            self._parts.append(part)
            self._cluster.summary.partitions += 1
            with self._connected():
                self._submit(part)

    def _submit(self, part: _Part[Item], **where: Any) -> None:
        from sshtool.cluster.worker import compute

        part.begun = time.monotonic()
        future = self._client.submit(
            compute,
            self._name,
            __version__,
            part.items,
            key=f"{self._name}-{next(self._attempts)}",
            pure=False,
            retries=_RETRIES,
            priority=-part.number,  # the results of the first partitions are needed first
            **where,
        )
        part.futures.append(future)

    def _first(self) -> Iterator[Done]:
        """Wait for the oldest partition, and yield its results. Splits it if it ends its workers."""
        part = self._parts[0]
        partition = self._awaited(part)
        if partition is None and len(part.items) > 1:
            self._split(part)
            return
        if partition is None:
            partition = self._alone(part)
        self._parts.popleft()
        if partition is None:
            yield self._work.lost(part.items[0], "it ended each worker that tried it")
            return
        self._adapt(partition.seconds, len(part.items))
        for future in part.futures:
            future.release()
        yield from partition.results

    def _split(self, part: _Part[Item]) -> None:
        """Compute each item of the oldest partition on its own."""
        self._parts.popleft()
        self._cluster.summary.repeated += 1
        for number, item in reversed(list(enumerate(part.items))):
            single = _Part(part.number + number / len(part.items), [item])
            self._parts.appendleft(single)
            with self._connected():
                self._submit(single)

    def _alone(self, part: _Part[Item]) -> Any:
        """The result of the oldest partition while no other is computed; None if it ends its workers even so.

        Dask suspects everything that a worker has when it ends, and so also what waits behind a dangerous item.
        """
        others = [other for other in self._parts if other is not part]
        with self._connected():
            self._client.cancel([future for other in others for future in other.futures], force=True)
            for other in others:
                other.futures.clear()
            part.futures.clear()
            self._submit(part)
        partition = self._awaited(part)
        with self._connected():
            for other in others:
                self._submit(other)
        return partition

    def _awaited(self, part: _Part[Item]) -> Any:
        """The result of a partition; None if each worker that tried it has ended."""
        from distributed import wait
        from distributed.scheduler import KilledWorker

        while True:
            with self._connected():
                with self._client.as_current(), contextlib.suppress(TimeoutError):
                    wait(part.futures, timeout=_POLL, return_when="FIRST_COMPLETED")
                self._look()
                done = next((future for future in part.futures if future.status in ("finished", "error")), None)
                if done is None:
                    self._check_lost(part)
                    self._hurry(part)
                    continue
                try:
                    return done.result(timeout=_CONNECTION_SECONDS)
                except KilledWorker:
                    return None
                except TimeoutError:  # the worker that keeps the result does not answer
                    self._repeat(
                        part, {worker for workers in self._client.who_has([done]).values() for worker in workers}
                    )
                    part.futures.remove(done)
                except (SSHToolError, *_LOST):
                    raise
                except Exception as error:
                    raise ClusterError(
                        f"{self._cluster.address}: a worker failed ({type(error).__name__}: {one_line(error)}); read "
                        "its log"
                    ) from error

    def _check_lost(self, part: _Part[Item]) -> None:
        if any(future.status == "cancelled" for future in part.futures):  # "lost" results are computed again
            raise ConnectionResetError("the scheduler was restarted")
        if self._client.status not in ("running", "connecting"):
            raise ConnectionResetError(f"the client is {self._client.status}")

    def _hurry(self, part: _Part[Item]) -> None:
        """Let another worker compute a partition, too, that takes far longer than others did."""
        usual = statistics.median(self._times) if self._times else 0.0
        waited = time.monotonic() - part.begun
        if len(part.futures) > 1 or waited < max(_STRAGGLING_SECONDS, _STRAGGLING * usual):
            return
        key = part.futures[0].key
        if busy := {worker for worker, keys in self._client.processing().items() if key in keys}:
            self._repeat(part, busy)

    def _repeat(self, part: _Part[Item], without: set[str]) -> None:
        """Let other workers compute a partition, too, if there are any."""
        if others := [worker for worker in self._client.nthreads() if worker not in without]:
            self._cluster.summary.repeated += 1
            self._submit(part, workers=others, allow_other_workers=False)
        elif not part.futures:
            self._submit(part)

    def _adapt(self, seconds: float, items: int) -> None:
        self._times.append(seconds)
        self._size = max(1, min(_MOST, 2 * self._size, round(_PARTITION_SECONDS * items / max(seconds, 1e-6))))

    def _look(self) -> None:
        """Look up the number of the cluster's threads once in a while. Raises ClusterError after long without any."""
        if time.monotonic() - self._looked >= _POLL or not self._threads:
            self._wait_for_workers()
            self._looked = time.monotonic()

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + PATIENCE
        said = False
        while not (workers := self._client.nthreads()):
            if not said:
                self._cluster.progress(f"{self._cluster.address}: waiting for workers")
                said = True
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{self._cluster.address}: has no worker; start some with `dask worker {self._cluster.address}`"
                )
            time.sleep(_POLL)
        self._threads = sum(workers.values())
        self._cluster.summary.workers = max(self._cluster.summary.workers, len(workers))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Reconnect after the block if it loses the scheduler."""
        try:
            yield
        except _LOST:
            self._reconnect()


def _contents(artifact: Path) -> dict[str, bytes]:
    """The files of an artifact. Raises ArtifactError if one cannot be read."""
    try:
        return {path.name: path.read_bytes() for path in artifact_files(artifact)}
    except OSError as error:
        raise ArtifactError(f"{artifact}: cannot be read ({error.strerror}); convert again") from None


def _limited(call: Callable[[], Any]) -> None:
    """Call what waits for each worker, and wait no longer than a worker that answers needs. Raises what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="sshtool-cluster")
    thread.start()
    thread.join(_CONNECTION_SECONDS)
    if errors:
        raise errors[0]


def _silence() -> None:
    """Keep Dask's log off the terminal: what matters reaches the user as an error or as progress."""
    for name in ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "bokeh"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
