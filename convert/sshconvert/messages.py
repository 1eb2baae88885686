"""What is not ours, put into a message: printable, on one line and never long, whatever it is."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
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

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\(x[0-9a-f]{2})")
_ESCAPED_BYTE: Final = re.compile(rb"\\x([0-9a-f]{2})")


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


def name_text(path: str | os.PathLike[str]) -> str:
    r"""A file's name, or a path, as text from which `path_of` makes the same again. Almost every name is its own text.

    A byte that is not UTF-8 is \xff, with its own two digits. Where a name has such an escape itself, its backslash is
    \x5c.
    """
    return without_surrogates(_ESCAPE.sub(r"\\x5c\1", os.fspath(path)))


def path_of(text: str) -> Path:
    r"""The path of which `name_text` made `text`."""
    return Path(os.fsdecode(_ESCAPED_BYTE.sub(lambda escape: bytes.fromhex(escape[1].decode()), text.encode())))


def without_surrogates(text: str) -> str:
    """The text with escapes as `printable` writes them where UTF-8 has no character."""
    return _SURROGATE.sub(lambda found: _escape(ord(found[0])), text)


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


def count(number: int, thing: str) -> str:
    """A number of things, in the singular or the plural."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
