"""What a file says, put into a message: on one line and never long, whatever is in the file."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from itertools import islice
from typing import Any, Final

MOST_LISTED: Final = 20

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxtuple = 32


def shown(value: Any) -> str:
    """`value` as Python writes it, without the middle of what is long, deep or of many parts."""
    return _SHORT.repr(value)


def listed(items: Collection[str], separator: str = "; ") -> str:
    """The items in one line: the first `MOST_LISTED`, and how many more there are."""
    more = len(items) - MOST_LISTED
    return separator.join(islice(items, MOST_LISTED)) + (f"{separator}and {more} more" if more > 0 else "")
