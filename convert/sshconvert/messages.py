"""What a file says, put into a message: on one line and never long, whatever is in the file."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

MOST_LISTED: Final = 20

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxtuple = 32


def shown(value: Any) -> str:
    """`value` as Python writes it, without the middle of what is long, deep or of many parts."""
    return _SHORT.repr(value)


def listed(items: Iterable[str], separator: str = "; ") -> str:
    """The items in one line: the first `MOST_LISTED`, and how many more there are."""
    return counted(items, separator)[1]


def counted(items: Iterable[str], separator: str = "; ") -> tuple[int, str]:
    """How many items there are, and the line of `listed`. The others are not kept."""
    left = iter(items)
    first = list(islice(left, MOST_LISTED))
    more = sum(1 for _ in left)
    return len(first) + more, separator.join(first) + (f"{separator}and {more} more" if more else "")
