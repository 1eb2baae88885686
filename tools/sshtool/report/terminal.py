"""Lines and tables for the terminal. Only this module creates rich's texts, tables and consoles.

Each line and each cell is made printable, so that foreign text can neither break a line nor send control sequences. The
console also escapes unprintable text from any other caller; only rich's own styles and line breaks pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import (
    Console,  # noqa: TID251  # only this module creates consoles
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.segment import Segment
from rich.table import Table  # noqa: TID251  # only this module creates tables
from rich.text import Text  # noqa: TID251  # only this module creates texts

from sshconvert.messages import printable

# The minimum width of a shortened word.
SHORT: Final = 12
ELLIPSIS: Final = "…"
BETWEEN: Final = 3  # blanks between columns


class SafeConsole(Console):
    """A console that sends no control sequences except rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield segment._replace(text="\n".join(map(printable, text.split("\n"))))


def lines(*items: object, style: str = "") -> RenderableType:
    """Items, one a line."""
    return Group(*(Text(printable(item), style=style) for item in items))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", plain: bool = False, keys: int = 1
) -> RenderableType:
    """A table with lines that fits the terminal, or, if `plain`, without lines and at its natural width.

    Columns whose name starts with ">" are aligned to the right. The first `keys` columns identify a row.
    """
    heads = tuple(printable(name.removeprefix(">")) for name in columns)
    right = tuple(name.startswith(">") for name in columns)
    cells = tuple(tuple(map(printable, row)) for row in rows)
    fitting = _Table(heads, right, cells, printable(title), keys)
    return fitting.drawn(range(len(heads)), plain=True) if plain else fitting


@dataclass(frozen=True)
class _Table:
    """A table that fits the terminal in three steps: cells wrap between words; long words lose their middle, unless
    two would look alike; columns move into further tables below, which repeat the key columns.
    """

    heads: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str
    keys: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, group in enumerate(self._groups(options.max_width)):
            if number:
                yield ""
            yield self._fitted(group, options.max_width, "" if number else self.title)

    def drawn(
        self, group: Sequence[int], widths: Sequence[int] = (), *, title: str | None = None, plain: bool = False
    ) -> Table:
        """A rich table of the columns in `group`, with `widths` if given."""
        title = self.title if title is None else title
        drawn = Table(
            title=Text(title) if title else None,
            title_justify="left",
            box=None if plain else box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
        )
        shorten = []
        for column, width in zip_longest(group, widths):
            shown: Callable[[str], str] = str
            head = self.heads[column]
            if width:
                head = _shortener(self.heads, width)(head)
                shown = _shortener(self._cells(column), width)
            justify: JustifyMethod = "right" if self.right[column] else "left"
            drawn.add_column(Text(head), justify=justify, overflow="fold", no_wrap=plain, width=width)
            shorten.append(shown)
        for row in self.rows:
            drawn.add_row(*(Text(shown(row[column])) for column, shown in zip(group, shorten, strict=True)))
        return drawn

    def _groups(self, room: int) -> Iterator[list[int]]:
        """The columns of each table of at most `room` characters."""
        keys = list(range(min(self.keys, len(self.heads))))
        group = keys.copy()
        for column in range(len(keys), len(self.heads)):
            if len(group) > len(keys) and self._least([*group, column]) > room:
                yield group
                group = keys.copy()
            group.append(column)
        yield group

    def _least(self, group: Sequence[int]) -> int:
        return sum(min(SHORT, self._longest_word(column)) for column in group) + BETWEEN * (len(group) - 1)

    def _fitted(self, group: Sequence[int], room: int, title: str) -> Table:
        room = max(room - BETWEEN * (len(group) - 1), len(group))
        natural = [max(map(cell_len, self._texts(column))) for column in group]
        words = [self._longest_word(column) for column in group]
        widths = _reduced(natural, words, room)
        widths = _reduced(widths, [min(SHORT, word) for word in words], room)
        return self.drawn(group, _reduced(widths, [1] * len(group), room), title=title)

    def _cells(self, column: int) -> list[str]:
        return [row[column] for row in self.rows]

    def _texts(self, column: int) -> list[str]:
        return [self.heads[column], *self._cells(column)]

    def _longest_word(self, column: int) -> int:
        return max((cell_len(word) for text in self._texts(column) for word in text.split()), default=1)


def _shortener(texts: Iterable[str], width: int) -> Callable[[str], str]:
    """A function that shortens words to `width`, or `str` if two of the texts would then look alike."""

    def shorten(text: str) -> str:
        return " ".join(_shortened(word, width) for word in text.split(" "))

    different = set(texts)
    return shorten if len({shorten(text) for text in different}) == len(different) else str


def _shortened(word: str, width: int) -> str:
    """A word without its middle, because its end is the most specific part."""
    if cell_len(word) <= width or width < SHORT:
        return word
    front = (width - 1) // 2
    back = width - 1 - front
    return set_cell_size(word, front) + ELLIPSIS + set_cell_size(word[::-1], back)[::-1]


def _reduced(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns until they fit `room`, but none below its minimum in `least`."""
    reduced = [min(width, max(room, minimum)) for width, minimum in zip(widths, least, strict=True)]
    while sum(reduced) > room:
        reducible = [column for column, width in enumerate(reduced) if width > least[column]]
        if not reducible:
            break
        reduced[max(reducible, key=reduced.__getitem__)] -= 1
    return reduced


def console(**settings: Any) -> SafeConsole:
    """A console without highlighting, markup and emoji."""
    return SafeConsole(highlight=False, markup=False, emoji=False, **settings)
