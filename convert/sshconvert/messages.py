"""What is not ours, put into a message: printable, on one line and never long, whatever it is."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

MOST_LISTED: Final = 20

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxtuple = 32

# Unicode's Default_Ignorable_Code_Point, as far as Python takes it to be printable: nothing is seen of these.
_INVISIBLE: Final = frozenset(
    map(
        chr,
        [
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ],
    )
)


def printable(text: object) -> str:
    r"""`text` on one line, with an escape for each character that a terminal obeys, or that cannot be seen or encoded.

    These are the characters that `str.isprintable` denies (all control and format characters and the spaces other than
    " ") and those that Unicode lets ignore. Escapes are Python's, with one difference: \x80 to \xff stand for bytes
    of a file name that are not UTF-8. What is printable stays as it is, a backslash too: a second call changes nothing.
    """
    line = str(text)
    if line.isprintable() and _INVISIBLE.isdisjoint(line):
        return line
    return "".join(
        character if character.isprintable() and character not in _INVISIBLE else _escape(ord(character))
        for character in line
    )


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte as `os.fsdecode` has it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return repr(chr(code))[1:-1]
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: Any) -> str:
    """`value` as Python writes it, without the middle of what is long, deep or of many parts."""
    return printable(_SHORT.repr(value))


def listed(items: Iterable[str], separator: str = "; ") -> str:
    """The items in one line: the first `MOST_LISTED`, and how many more there are."""
    return counted(items, separator)[1]


def counted(items: Iterable[str], separator: str = "; ") -> tuple[int, str]:
    """How many items there are, and the line of `listed`. The others are not kept."""
    left = iter(items)
    first = list(islice(left, MOST_LISTED))
    more = sum(1 for _ in left)
    return len(first) + more, separator.join(first) + (f"{separator}and {more} more" if more else "")
