"""The registry of tasks, by `kind`."""

from __future__ import annotations

from typing import Any, Final

from sshconvert.registry import Registry
from sshconvert.schema import one_line
from sshconvert.tasks.base import Task

TASKS: Final[Registry[type[Task]]] = Registry("sshconvert.tasks")


def parse_task(value: Any) -> Task:
    """Return the task of a model's description: a task, or a table with a `kind`.

    Raises ValueError for an unknown kind and for unknown fields.
    """
    if isinstance(value, Task):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in TASKS:
        raise ValueError(f"kind is {one_line(kind)!r}, expected one of {', '.join(TASKS)}")
    return TASKS[kind].model_validate(value)
