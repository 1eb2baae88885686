"""Reports of progress: one kind, which every long step takes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is being done, and how far it is where that is known."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None: ...


def silent(step: str, done: int = 0, total: int = 0) -> None:
    """A `Progress` that nobody watches."""
