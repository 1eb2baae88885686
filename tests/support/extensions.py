"""Extensions of sshtool: modules outside the project, found through the entry points of a distribution."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

ADDED = Path(__file__).parent / "added"


def install(folder: Path, modules: Iterable[str]) -> None:
    """Put modules of `added` into a folder of PYTHONPATH, with the metadata that an installed distribution has."""
    information = folder / "added-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1\n")
    lines = ["[sshtool.extensions]"]
    for module in modules:
        shutil.copy(ADDED / f"{module}.py", folder)
        lines.append(f"{module} = {module}")
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
