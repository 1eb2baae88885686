"""Progress of long steps."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the current step, and how many of how many parts are done where that is known."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None: ...


def silent(step: str, done: int = 0, total: int = 0) -> None:
    """Ignore the progress."""
