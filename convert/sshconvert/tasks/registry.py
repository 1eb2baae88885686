"""The tasks that a model can have, by `kind`."""

from __future__ import annotations

from typing import Any, Final

from sshconvert.registry import Registry
from sshconvert.schema import one_line
from sshconvert.tasks.base import Task

TASKS: Final[Registry[type[Task]]] = Registry("sshconvert.tasks")


def parse_task(value: Any) -> Task:
    """Return the task that a model's description gives as a table with a `kind`, or as a task.

    Raises ValueError for an unknown kind and for fields that the task does not have.
    """
    if isinstance(value, Task):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in TASKS:
        raise ValueError(f"kind is {one_line(kind)!r}, expected one of {', '.join(TASKS)}")
    return TASKS[kind].model_validate(value)
