"""Tables for a person: with lines on a terminal, aligned and plain elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", plain: bool = False) -> Table:
    """A table of text. Columns whose name starts with ">" are aligned to the right."""
    made = Table(title=title or None, title_justify="left", box=None if plain else box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=plain)
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    return made
