"""What a cluster computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from sshtool.concurrency import overlapped
from sshtool.runtimes.base import Settings
from sshtool.stores import ImageFile

Item = TypeVar("Item")
Done = TypeVar("Done")

READERS: Final = 8  # threads of a partition that wait for a store


@dataclass(frozen=True)
class Opened(Generic[Item, Done]):
    """A loaded model: the function that computes items one after the other, and a description of what computes."""

    compute: Callable[[Sequence[Item]], list[Done]]
    computer: str


def on_worker(settings: Settings, threads: int) -> Settings:
    """The settings for a worker on which Dask runs as many partitions at a time as it has `threads`."""
    return replace(settings, threads=threads, requests=threads, throughput=True)


def each(work: Callable[[Item], Done], items: Sequence[Item], *, remote: bool) -> list[Done]:
    """Compute each item. Threads wait for those of a `remote` store, so that the worker need not."""
    if not remote:
        return list(map(work, items))
    return list(overlapped(work, items, workers=READERS, stop=lambda: None))


@dataclass(frozen=True)
class Work(ABC, Generic[Item, Done]):
    """Work with one artifact on items that do not depend on each other. Workers receive it, and all items, by pickle.

    Attributes:
        artifact: The artifact on this machine. Its files travel to the workers.
        computer: The description of what computes on this machine. That of a worker has to be the same.
        folder: The current folder of this machine's process, which relative names of images begin at.

    """

    artifact: Path
    computer: str
    folder: Path

    @abstractmethod
    def open(self, artifact: Path, threads: int) -> Opened[Item, Done]:
        """Load the worker's copy of the artifact. Several threads call what it computes with."""

    @abstractmethod
    def lost(self, item: Item, reason: str) -> Done:
        """The result of an item that ended every worker that tried it."""

    def place(self, image: ImageFile) -> ImageFile:
        """An image by the name that a worker opens."""
        return self.folder / image if isinstance(image, Path) else image

    def named(self, message: str, artifact: Path, image: ImageFile) -> str:
        """A worker's message with this machine's names of the artifact and the image."""
        return message.replace(str(artifact), str(self.artifact)).replace(str(self.place(image)), str(image))
