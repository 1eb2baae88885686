"""The table of consumers in tools/README.md: `python tests/consumers/consumer_table.py ROWS.json` prints it.

The rows are those of `scripts/others.py`. A number in the table is the next power of ten above the measured difference.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

Cell = float | str
Row = tuple[str, str, list[Cell]]

HEAD: Final = "| consumer | version | fixed | dynamic | post-processed | INT8 |"
RULE: Final = "|---|---|---|---|---|---|"


def rounded(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return "equal" if cell == 0 else f"{10.0 ** math.ceil(math.log10(cell)):g}"


def rows_of(measured: Sequence[Sequence[Cell]]) -> list[Row]:
    return [(str(name), str(version), list(cells)) for name, version, *cells in measured]


def render(rows: Sequence[Row]) -> str:
    lines = [f"| {name} | {version} | {' | '.join(map(rounded, cells))} |" for name, version, cells in rows]
    return "\n".join([HEAD, RULE, *lines])


def stated(text: str) -> dict[str, list[str]]:
    """Read the table: version and cells by consumer."""
    lines = text[text.index(HEAD) :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    parts = [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]
    return {name: rest for name, *rest in parts}


if __name__ == "__main__":
    sys.stdout.write(render(rows_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))) + "\n")
