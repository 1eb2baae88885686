"""Quoting untrusted text in messages: printable, short and on one line."""

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

# The members of Unicode's Default_Ignorable_Code_Point that Python calls printable. Terminals show none of them.
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
    r"""Return `text` on one line, with an escape for each character that is invisible or controls a terminal.

    The function escapes the characters that `str.isprintable` rejects (control and format characters, and all spaces
    other than " ") and Unicode's ignorable ones. Escapes are Python's, except that \x80 to \xff stand for bytes of a
    file name that are not UTF-8. Printable characters stay, backslashes too, so a second call changes nothing.
    """
    line = str(text)
    if line.isprintable() and _INVISIBLE.isdisjoint(line):
        return line
    return "".join(
        character if character.isprintable() and character not in _INVISIBLE else _escape(ord(character))
        for character in line
    )


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that `os.fsdecode` could not decode
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return repr(chr(code))[1:-1]
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def name_text(path: str | os.PathLike[str]) -> str:
    r"""Encode a path as text that `path_of` decodes. Almost every path is its own text.

    A byte that is not UTF-8 becomes an escape such as \xff. The backslash of an escape in the name itself becomes \x5c.
    """
    return without_surrogates(_ESCAPE.sub(r"\\x5c\1", os.fspath(path)))


def path_of(text: str) -> Path:
    r"""Return the path that `name_text` encoded."""
    return Path(os.fsdecode(_ESCAPED_BYTE.sub(lambda escape: bytes.fromhex(escape[1].decode()), text.encode())))


def without_surrogates(text: str) -> str:
    """Return the text with `printable`'s escapes for the surrogates, which UTF-8 cannot encode."""
    return _SURROGATE.sub(lambda surrogate: _escape(ord(surrogate[0])), text)


def shown(value: Any) -> str:
    """Return the `repr` of `value`, abbreviated if it is long or deeply nested."""
    return printable(_SHORT.repr(value))


def listed(items: Iterable[str], separator: str = "; ") -> str:
    """Join the first `MOST_LISTED` items in one line, with the number of the others."""
    return counted(items, separator)[1]


def counted(items: Iterable[str], separator: str = "; ") -> tuple[int, str]:
    """Return the number of items and the line of `listed`, without storing the items that it omits."""
    remaining = iter(items)
    first = list(islice(remaining, MOST_LISTED))
    more = sum(1 for _ in remaining)
    return len(first) + more, separator.join(first) + (f"{separator}and {more} more" if more else "")


def count(number: int, thing: str) -> str:
    """Return "1 file" or "2 files" for the thing "file"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
