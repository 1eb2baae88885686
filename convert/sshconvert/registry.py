"""Registries: operators, tasks, formats and runtimes by name.

An entry is a class in a module of its own. The module registers the class when it is imported:

    @TASKS.register("embedding")
    class Embedding(Task): ...

At the first lookup, a registry imports all modules of its package, and then the extensions: the modules that installed
distributions name in the entry point group `sshtool.extensions`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Final, TypeVar

EXTENSIONS: Final = "sshtool.extensions"

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """Entries by key, in the order of registration, with extensions last."""

    def __init__(self, package: str) -> None:
        """Create the registry of a package, such as "sshconvert.operators"."""
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._is_loaded = False

    def register(self, *keys: str) -> Callable[[Entry], Entry]:
        """Return a decorator that adds an entry under each of the keys. Raises ValueError for a key that is taken."""

        def add(entry: Entry) -> Entry:
            for key in keys:
                if self._entries.setdefault(key, entry) is not entry:
                    raise ValueError(f"{key} is registered twice in {self._package}")
            return entry

        return add

    def __getitem__(self, key: str) -> Entry:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def _loaded(self) -> dict[str, Entry]:
        if not self._is_loaded:
            self._is_loaded = True  # before the imports, which may use the registry
            package = importlib.import_module(self._package)
            for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
                importlib.import_module(f"{self._package}.{module.name}")
            load_extensions()
            # Another registry may have loaded the extensions before this one loaded its package.
            added = [key for key, entry in self._entries.items() if not self._owns(entry)]
            self._entries.update({key: self._entries.pop(key) for key in added})
        return self._entries

    def _owns(self, entry: Entry) -> bool:
        return str(getattr(entry, "__module__", "")).startswith(f"{self._package}.")


@cache
def load_extensions() -> None:
    """Import the modules of the entry point group, once in a process."""
    for point in sorted(entry_points(group=EXTENSIONS), key=lambda point: point.name):
        importlib.import_module(point.module)
