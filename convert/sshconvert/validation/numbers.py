"""Numbers that a file writes as text."""

from __future__ import annotations

from typing import Final

from sshconvert.schema import one_line

LONGEST: Final = 18


def whole_number(text: str) -> int:
    """Parse a non-negative integer that fits into 64 bits. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST):
        raise ValueError(f"a constant has {one_line(text)!r} where a number is expected")
    return int(text)
