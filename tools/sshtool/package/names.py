"""Names that every file system has, that mean one file everywhere, and that no program takes for something else."""

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
    """Why no file of a package may be called that; "" if it may. Parts are separated by "/"."""
    if len(path) > LONGEST:
        return f"it has more than {LONGEST} characters"
    return next(filter(None, map(_fault_of_part, path.split("/"))), "")


def _fault_of_part(part: str) -> str:
    if not _PART.fullmatch(part):
        return "it has other characters than A-Z, a-z, 0-9, '.', '_' and '-', or an empty part"
    if part in (".", ".."):
        return "it leads out of the package, or in circles"
    if part.endswith("."):
        return "a part ends in a dot, which Windows drops"
    if part.startswith("-"):
        return "a part begins with '-', as an option does"
    if part.partition(".")[0].lower() in _DEVICES:
        return "a part is the name of a device on Windows"
    return ""


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths, or their folders, that differ in case alone, or of which one is a file and a folder to the other."""
    seen: dict[str, str] = {}
    kinds: dict[str, bool] = {}
    for path in paths:
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            part, is_file = "/".join(parts[:count]), count == len(parts)
            folded = part.casefold()
            other = seen.setdefault(folded, part)
            if other != part or kinds.setdefault(folded, is_file) != is_file:
                return other, part
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
