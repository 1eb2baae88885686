"""What a person reads at a terminal: lines, and tables that fit it. The one place that makes rich's texts and consoles.

A line or a cell is one piece, made printable here, so that what is not ours begins no line and gives no orders. The
console lets nothing else through, from any caller; styles and line breaks between the pieces are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import (
    Console,  # noqa: TID251  # this is the place
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.segment import Segment
from rich.table import Table  # noqa: TID251  # as above
from rich.text import Text  # noqa: TID251  # as above

from sshconvert.messages import printable

# The least that is left of a long name.
SHORT: Final = 12
ELLIPSIS: Final = "…"
BETWEEN: Final = 3  # columns


class SafeConsole(Console):
    """A console of which a terminal obeys nothing but rich's own styles and movements."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield segment._replace(text="\n".join(map(printable, text.split("\n"))))


def lines(*items: object, style: str = "") -> RenderableType:
    """Each item on a line of its own."""
    return Group(*(Text(printable(item), style=style) for item in items))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", plain: bool = False, keys: int = 1
) -> RenderableType:
    """A table of text: with lines, and as wide as a terminal; or `plain`, as wide as it is.

    Columns whose name starts with ">" are aligned to the right. The first `keys` columns tell rows apart.
    """
    heads = tuple(printable(name.removeprefix(">")) for name in columns)
    right = tuple(name.startswith(">") for name in columns)
    cells = tuple(tuple(map(printable, row)) for row in rows)
    made = _Table(heads, right, cells, printable(title), keys)
    return made.drawn(range(len(heads)), plain=True) if plain else made


@dataclass(frozen=True)
class _Table:
    """A table that fits: cells wrap between words, then long words lose their middle, then columns go into a table of
    their own below, behind the columns that tell rows apart. A word is never cut to what another one is cut to.
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
        """These columns, in these widths."""
        title = self.title if title is None else title
        made = Table(
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
            made.add_column(Text(head), justify=justify, overflow="fold", no_wrap=plain, width=width)
            shorten.append(shown)
        for row in self.rows:
            made.add_row(*(Text(shown(row[column])) for column, shown in zip(group, shorten, strict=True)))
        return made

    def _groups(self, room: int) -> Iterator[list[int]]:
        """The columns of one table, or of several, one below the other."""
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
        wanted = [max(map(cell_len, self._texts(column))) for column in group]
        words = [self._longest_word(column) for column in group]
        widths = _reduced(wanted, words, room)
        widths = _reduced(widths, [min(SHORT, word) for word in words], room)
        return self.drawn(group, _reduced(widths, [1] * len(group), room), title=title)

    def _cells(self, column: int) -> list[str]:
        return [row[column] for row in self.rows]

    def _texts(self, column: int) -> list[str]:
        return [self.heads[column], *self._cells(column)]

    def _longest_word(self, column: int) -> int:
        return max((cell_len(word) for text in self._texts(column) for word in text.split()), default=1)


def _shortener(texts: Iterable[str], width: int) -> Callable[[str], str]:
    """What makes words as short as that, unless two of the texts then look alike: such texts are folded as they are."""

    def shorten(text: str) -> str:
        return " ".join(_shortened(word, width) for word in text.split(" "))

    different = set(texts)
    return shorten if len({shorten(text) for text in different}) == len(different) else str


def _shortened(word: str, width: int) -> str:
    """A word without its middle; the end is what tells most."""
    if cell_len(word) <= width or width < SHORT:
        return word
    front = (width - 1) // 2
    back = width - 1 - front
    return set_cell_size(word, front) + ELLIPSIS + set_cell_size(word[::-1], back)[::-1]


def _reduced(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths with the widest made narrower until all have room, but none below its least."""
    made = [min(width, max(room, own)) for width, own in zip(widths, least, strict=True)]
    while sum(made) > room:
        widest = max(
            (place for place in range(len(made)) if made[place] > least[place]), key=made.__getitem__, default=-1
        )
        if widest < 0:
            break
        made[widest] -= 1
    return made


def console(**settings: Any) -> SafeConsole:
    """A console as sshtool writes on: it marks nothing up."""
    return SafeConsole(highlight=False, markup=False, emoji=False, **settings)
