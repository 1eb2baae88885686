"""Numbers that a person or a file wrote as text, read alike everywhere.

Python's `int` and `float` take digits of every script, underscores, blanks, "nan" and "infinity", and refuse whole
numbers of thousands of digits with an error of their own.
"""

from __future__ import annotations

import math
import re
from typing import Final

LARGEST_WHOLE: Final = 999_999_999

_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,5})?")


def whole_number(text: str) -> int:
    """A whole number from 0 to `LARGEST_WHOLE`. Raises ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("it is no whole number, or too large a one")
    return int(text)


def number(text: str) -> float:
    """A finite number. Raises ValueError."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("it is no number, or too large a one")
    return float(text)
