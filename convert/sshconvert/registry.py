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
from threading import RLock
from typing import Final, TypeVar

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.messages import printable

EXTENSIONS: Final = "sshtool.extensions"

_LOADING: Final = RLock()  # a thread that looks an entry up waits until the registry is whole

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """Entries by key, in the order of their modules' names, with extensions last."""

    def __init__(self, package: str) -> None:
        """Create the registry of a package, such as "sshconvert.operators"."""
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._is_loading = self._is_loaded = False

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
            with _LOADING:
                if not (self._is_loaded or self._is_loading):  # the imports may use the registry themselves
                    self._load()
        return self._entries

    def _load(self) -> None:
        self._is_loading = True
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            load_extensions()
        finally:
            self._is_loading = False
        # The same order, whichever module was imported first.
        self._entries = dict(sorted(self._entries.items(), key=lambda item: self._place(item[1])))
        self._is_loaded = True

    def _place(self, entry: Entry) -> tuple[bool, str]:
        module = str(getattr(entry, "__module__", ""))
        is_own = module.startswith(f"{self._package}.")
        return not is_own, module


@cache
def load_extensions() -> None:
    """Import the modules of the entry point group, once in a process.

    Raises RuntimeUnavailableError for a module that cannot be imported.
    """
    for point in sorted(entry_points(group=EXTENSIONS), key=lambda point: point.name):
        try:
            importlib.import_module(point.module)
        except Exception as error:
            raise RuntimeUnavailableError(
                f"the extension {printable(point.name)} cannot be imported ({printable(error)}); "
                "correct it, or uninstall its distribution"
            ) from error
