"""Runs verbs where these packages are not installed: `base_install.py PACKAGES JSON`, of which JSON is a list of calls.

Prints as JSON the exit code and the streams of each. The packages are out of reach from the beginning on, by the import
system itself, as they are for whoever has not installed them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class Absent:
    """Says of the packages, and of nothing else, that there is none."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.split(".", maxsplit=1)[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def call(arguments: Sequence[str]) -> tuple[object, str, str]:
    from sshtool.cli import app

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    sys.argv = ["sshtool", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent(sys.argv[1].split(",")))
    results = [call(arguments) for arguments in json.loads(sys.argv[2])]
    print(json.dumps(results))  # noqa: T201  # what it is for
