"""Typed access to a node's attributes, which MXNet stores as strings.

An operator takes the attributes that it honours. Other attributes, and malformed or unsupported values, are problems.
`Attributes` collects the problems for one message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from sshconvert.messages import shown

T = TypeVar("T")

TRUE: Final = ("True", "true", "1")
FALSE: Final = ("False", "false", "0")

# The limit of kernels, strides, sizes and channels. Sums and products of a few such numbers fit into 64 bits.
MAX_INTEGER: Final = 2**31 - 1
MAX_DIMENSIONS: Final = 32
MAX_FLOAT32: Final = 3.4e38

# Python 2 wrote "(3L, 3L)", which MXNet accepts.
_INTEGER: Final = re.compile(r"\s*([+-]?\d{1,18})L?\s*", re.ASCII)
_TUPLE: Final = re.compile(r"\s*[(\[](.*)[)\]]\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?(\d{1,60}\.?\d{0,60}|\.\d{1,60})(e[+-]?\d{1,4})?\s*", re.ASCII | re.IGNORECASE)


class Attributes:
    """The attributes of one node, and their problems so far."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        # `__key__` serves the trainer and the scheduler; no operator reads it.
        self._left = {key: value for key, value in attributes.items() if not re.fullmatch(r"__\w+__", key)}
        self.problems: list[str] = []

    def integer(self, name: str, default: int | None = None, *, least: int = 0, most: int = MAX_INTEGER) -> int:
        """Take an integer from `least` to `most`. Without a default the attribute is required."""
        text = self._take(name, default is None)
        if text is None:
            return least if default is None else default
        match = _INTEGER.fullmatch(text)
        if match is None or not least <= int(match[1]) <= most:
            expected = str(least) if least == most else f"an integer from {least} to {most}"
            return self._wrong(name, text, expected, least)
        return int(match[1])

    def optional_integer(
        self, name: str, *, default: int | None = None, least: int = 0, most: int = MAX_INTEGER
    ) -> int | None:
        """Take an integer from `least` to `most`, or None."""
        text = self._left.get(name)
        if text in (None, "None"):
            self._left.pop(name, None)
            return None if text else default
        return self.integer(name, least=least, most=most)

    def integers(
        self,
        name: str,
        default: tuple[int, ...] | None = None,
        *,
        least: int = 0,
        length: int | None = None,
        most: int = MAX_DIMENSIONS,
    ) -> tuple[int, ...]:
        """Take a tuple such as "(3, 3)" of `length` integers, or of 1 to `most`. An empty tuple gives the default."""
        text = self._take(name, default is None)
        if text is None:
            return default or ()
        values = _read_tuple(text)
        if values == () and default is not None:
            return default
        if values is None or any(not least <= value <= MAX_INTEGER for value in values):
            return self._wrong(name, text, f"integers from {least} to {MAX_INTEGER}", default or ())
        if length is None and not 1 <= len(values) <= most:
            return self._wrong(name, text, f"1 to {most} integers", default or ())
        if length is not None and len(values) != length:
            return self._wrong(name, text, f"{length} integers", default or ())
        return values

    def optional_integers(self, name: str, *, least: int = -MAX_INTEGER) -> tuple[int | None, ...]:
        """Take a tuple of integers of at least `least`, and of None. The default is an empty tuple."""
        text = self._take(name, required=False)
        if text is None:
            return ()
        values = _read_optional_tuple(text)
        if values is None or any(value is not None and not least <= value <= MAX_INTEGER for value in values):
            return self._wrong(name, text, f"integers from {least} to {MAX_INTEGER} or None", ())
        return values

    def numbers(
        self,
        name: str,
        default: tuple[float, ...] | None = None,
        *,
        least: float = -MAX_FLOAT32,
        length: int | None = None,
    ) -> tuple[float, ...]:
        """Take a tuple such as "(0.1, 0.2)" of `length` numbers of at least `least`, or one number."""
        text = self._take(name, default is None)
        if text is None:
            return default or ()
        values = _read_numbers(text)
        if values is None or any(not least <= value <= MAX_FLOAT32 for value in values):
            return self._wrong(name, text, f"numbers of at least {least}", default or ())
        if length is not None and len(values) != length:
            return self._wrong(name, text, f"{length} numbers", default or ())
        return values

    def boolean(self, name: str, default: bool) -> bool:
        text = self._take(name, required=False)
        if text is None:
            return default
        if text not in TRUE + FALSE:
            return self._wrong(name, text, "True or False", default)
        return text in TRUE

    def never(self, name: str) -> None:
        """Take a boolean that must be False, the default."""
        text = self._take(name, required=False)
        if text not in (None, *FALSE):
            self._wrong(name, str(text), "False", fallback=None)

    def number(self, name: str, default: float | None, *, least: float = 0) -> float:
        """Take a number from `least` to the largest of float32. Without a default the attribute is required."""
        text = self._take(name, default is None)
        if text is None:
            return least if default is None else default
        if not _NUMBER.fullmatch(text) or not least <= float(text) <= MAX_FLOAT32:
            return self._wrong(name, text, f"a number of at least {least}", least if default is None else default)
        return float(text)

    def choice(self, name: str, supported: tuple[str, ...], default: str | None = None) -> str:
        """Take one of the supported values. MXNet's default is a problem too if it is not supported."""
        text = self._take(name, default is None)
        text = default if text is None else text
        if text is None:
            return supported[0]
        if text in supported:
            return text
        return self._wrong(name, text, " or ".join(supported), supported[0])

    def without_effect(self, *names: str) -> None:
        """Take attributes that choose an implementation or serve training, and never change the result."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> list[str]:
        """Return all problems, including unknown attributes."""
        unknown = [f"attribute {name}={shown(value)} is not known" for name, value in sorted(self._left.items())]
        return self.problems + unknown

    def _take(self, name: str, required: bool) -> str | None:
        text = self._left.pop(name, None)
        text = None if text == "None" else text
        if text is None and required:
            self.problems.append(f"attribute {name} is missing")
        return text

    def _wrong(self, name: str, text: str, expected: str, fallback: T) -> T:
        self.problems.append(f"attribute {name}={shown(text)} is not supported: expected {expected}")
        return fallback


def _parts(text: str) -> list[str]:
    match = _TUPLE.fullmatch(text)
    parts = [text] if match is None else match[1].split(",")
    if match is not None and not parts[-1].strip():
        parts.pop()  # the blank after the comma of "(3,)", or inside "()"
    return parts


def _read_tuple(text: str) -> tuple[int, ...] | None:
    values = _read_optional_tuple(text)
    return None if values is None or None in values else tuple(value for value in values if value is not None)


def _read_optional_tuple(text: str) -> tuple[int | None, ...] | None:
    values: list[int | None] = []
    for part in _parts(text):
        number = _INTEGER.fullmatch(part)
        if number is None and part.strip() != "None":
            return None
        values.append(int(number[1]) if number else None)
    return tuple(values)


def _read_numbers(text: str) -> tuple[float, ...] | None:
    parts = _parts(text)
    return tuple(map(float, parts)) if all(map(_NUMBER.fullmatch, parts)) else None
