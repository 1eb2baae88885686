"""Portable file names: valid and distinct on every file system, and never taken for an option or a device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final

import pydantic

LONGEST: Final = 200  # of a whole path

_PART: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

# Devices on Windows, in every folder and with any suffix.
_DEVICES: Final = frozenset(
    ("con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10)))
)


def fault(path: str) -> str:
    """Why a package refuses the path, whose parts "/" separates; "" if it is valid."""
    if len(path) > LONGEST:
        return f"it has more than {LONGEST} characters"
    return next(filter(None, map(_fault_of_part, path.split("/"))), "")


def _fault_of_part(part: str) -> str:
    if not _PART.fullmatch(part):
        return "it has other characters than A-Z, a-z, 0-9, '.', '_' and '-', or an empty part"
    if part in (".", ".."):
        return "it leads out of its folder, or to itself"
    if part.endswith("."):
        return "a part ends in a dot, which Windows drops"
    if part.startswith("-"):
        return "a part begins with '-', as an option does"
    if part.partition(".")[0].lower() in _DEVICES:
        return "a part is the name of a device on Windows"
    return ""


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths, or their folders, that differ in case alone, or that are a file and a folder of one name."""
    seen: dict[str, tuple[str, bool]] = {}
    for path in paths:
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            prefix, is_file = "/".join(parts[:count]), count == len(parts)
            other = seen.setdefault(prefix.casefold(), (prefix, is_file))
            if other != (prefix, is_file):
                return other[0], prefix
    return None


def _check(path: str) -> str:
    if problem := fault(path):
        raise ValueError(problem)
    return path


PackagePath = Annotated[
    str,
    pydantic.StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=LONGEST),
    pydantic.AfterValidator(_check),
]
