"""The licence texts of a package."""

from __future__ import annotations

import re
from importlib.resources import files as resources
from typing import Final
from urllib.parse import urlsplit

from sshconvert.models.spec import ModelSpec

_OURS: Final = "Copyright (c) 2026 The sshtool authors"
_MIT: Final = re.compile(r"MIT, (Copyright \(c\) .+)")


def licence_texts(model: ModelSpec) -> dict[str, bytes]:
    """Return the licence texts by file name: sshtool's, and the network's if it is MIT of a stated holder.

    The network's file has the name of its project, the end of `homepage`.
    """
    holders = {"sshtool": _OURS}
    project, stated = urlsplit(model.homepage).path.rpartition("/")[2], _MIT.fullmatch(model.licence.code)
    if stated and re.fullmatch(r"[\w.-]+", project):
        holders = {project: stated.group(1), **holders}
    return {f"{name}.txt": mit_text(holder) for name, holder in holders.items()}


def mit_text(holder: str) -> bytes:
    """Return the MIT licence of the holder of a copyright: "Copyright (c) …"."""
    template = resources("sshtool.package").joinpath("mit.txt").read_text(encoding="utf-8")
    return template.format(copyright=holder).encode()
