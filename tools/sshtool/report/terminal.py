"""What a person reads at a terminal: lines, and tables that fit it. The one place that makes rich's texts and consoles.

A line or a cell is one piece, made printable here, so that what is not ours begins no line and gives no orders. The
console lets nothing else through, whoever printed it; styles and line breaks between the pieces are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import (
    Console,  # noqa: TID251  # this is the place
    ConsoleOptions,
    Group,
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
        shorten = (
            [self._shortener(column, width) for column, width in zip(group, widths, strict=True)] if widths else []
        )
        for place, column in enumerate(group):
            made.add_column(
                Text(shorten[place](self.heads[column]) if shorten else self.heads[column]),
                justify="right" if self.right[column] else "left",
                overflow="fold",
                no_wrap=plain,
                width=widths[place] if widths else None,
            )
        for row in self.rows:
            cells = (row[column] for column in group)
            made.add_row(*(Text(shorten[place](cell) if shorten else cell) for place, cell in enumerate(cells)))
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

    def _texts(self, column: int) -> list[str]:
        return [self.heads[column], *(row[column] for row in self.rows)]

    def _longest_word(self, column: int) -> int:
        return max((cell_len(word) for text in self._texts(column) for word in text.split()), default=1)

    def _shortener(self, column: int, width: int) -> Callable[[str], str]:
        """What makes the words of a column as short as that, unless two texts then look alike: such words are folded.

        Heads count as one more row, and beside one another, because they may be what tells columns apart.
        """

        def shorten(text: str) -> str:
            return " ".join(_shortened(word, width) for word in text.split(" "))

        for texts in ({row[column] for row in self.rows}, set(self.heads)):
            if len({shorten(text) for text in texts}) < len(texts):
                return str
        return shorten


def _shortened(word: str, width: int) -> str:
    """A word without its middle; the end is what tells most."""
    if cell_len(word) <= width or width < SHORT:
        return word
    front = (width - 1) // 2
    back = width - 1 - front
    return set_cell_size(word, front) + ELLIPSIS + set_cell_size(word[::-1], back)[::-1]


def _reduced(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths with the widest made narrower until all have room, but none below its least."""
    made = list(widths)
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
