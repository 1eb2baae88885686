"""Imported by Python when it starts with this folder on its path: packages named in a variable are not installed.

So they are out of reach from the beginning on, by the import system itself, in child processes too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class Absent:
    """Says of the packages, and of nothing else, that there is none."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.split(".", maxsplit=1)[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Absent(os.environ.get("ABSENT_PACKAGES", "").split(",")))
