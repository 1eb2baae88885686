"""Parsing numbers in options and files, more strictly than `int` and `float`.

Python's functions accept digits of every script, underscores, blanks, "nan" and "infinity". For thousands of digits,
`int` raises an error of its own.
"""

from __future__ import annotations

import math
import re
from typing import Final

LARGEST_WHOLE: Final = 999_999_999

_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,5})?")


def whole_number(text: str) -> int:
    """Parse a whole number from 0 to `LARGEST_WHOLE`. Raises ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("it is not a whole number, or too large")
    return int(text)


def number(text: str) -> float:
    """Parse a finite number. Raises ValueError."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("it is not a number, or too large")
    return float(text)
