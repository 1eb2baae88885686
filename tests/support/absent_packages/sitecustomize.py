"""Hides packages from Python and its child processes.

Python imports this module when it starts with this folder on its path. ABSENT_PACKAGES names the packages.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class Absent:
    """Finds none of the packages, and leaves all others to the next finder."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.split(".", maxsplit=1)[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Absent(os.environ.get("ABSENT_PACKAGES", "").split(",")))
