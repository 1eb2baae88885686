"""What a cluster computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Opened(Generic[Item, Done]):
    """A loaded model: the function that computes items one after the other, and a description of what computes."""

    compute: Callable[[Sequence[Item]], list[Done]]
    computer: str


class Work(ABC, Generic[Item, Done]):
    """Work with one artifact on items that do not depend on each other. Workers receive it, and all items, by pickle.

    Attributes:
        artifact: The artifact on this machine. Its files travel to the workers.
        computer: The description of what computes on this machine. That of a worker has to be the same.

    """

    artifact: Path
    computer: str

    @abstractmethod
    def open(self, artifact: Path, threads: int) -> Opened[Item, Done]:
        """Load the worker's copy of the artifact. Several threads call what it computes with."""

    @abstractmethod
    def lost(self, item: Item, reason: str) -> Done:
        """The result of an item that ended every worker that tried it."""
