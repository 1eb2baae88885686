"""How to install what is missing, in a command that works where this program runs."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Final

DISTRIBUTION: Final = "sshtool"

# "onnxruntime>=1.19; extra == 'runtime'": the last condition is the extra's, others may stand before it.
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']\s*$""")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def install_command(extra: str = "", *, base: str = "", upgrade: bool = False) -> str:
    """The command that installs the packages of one of this distribution's extras, and of its own needs that of `base`.

    It names the packages themselves, as the distribution's metadata do: its own name is registered nowhere. It names
    the interpreter too, since the `pip` of the shell may be that of another environment.
    """
    wanted = sorted({*_requirements(extra, base)})
    if not wanted:
        return f"install {extra or base}, which its file pyproject.toml names"
    command = [sys.executable or "python", "-m", "pip", "install"]
    if not _has_pip():  # environments that uv makes have none
        command = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*command, *(["--upgrade"] if upgrade else []), *wanted])


def _has_pip() -> bool:
    """From the metadata: looking for the module calls hooks of setuptools, which change and warn about distutils."""
    try:
        importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _requirements(extra: str, base: str) -> Iterator[str]:
    """Without their conditions: those of the extras only say where there is nothing to install."""
    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # it runs from a folder, and was never installed
        return
    for line in listed:
        requirement, _, condition = (part.strip() for part in line.partition(";"))
        name = _NAME.match(requirement)
        of_extra = _EXTRA.search(condition)
        if of_extra[1] == extra if of_extra else bool(base) and name is not None and name[0] == base:
            yield requirement
