"""The values of options that are more than a number or a path. Each raises UsageError that names the option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sshtool import limits

if TYPE_CHECKING:
    from sshconvert.graph import Shape


def choices(option: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Each of the values that are given, several with commas, in the spelling of `known`."""
    from sshconvert.errors import UsageError

    names = {name.casefold(): name for name in known}
    items = [item.strip() for text in given for item in text.split(",") if item.strip()]
    unknown = [item for item in items if item.casefold() not in names]
    if unknown or not items:
        raise UsageError(f"{option}: {', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}")
    return list(dict.fromkeys(names[item.casefold()] for item in items))


def choice(option: str, given: str, known: Sequence[str]) -> str:
    """As `choices`, of exactly one."""
    from sshconvert.errors import UsageError

    chosen = choices(option, [given], known)
    if len(chosen) > 1:
        raise UsageError(f"{option}: {given} is more than one; give one of {', '.join(known)}")
    return chosen[0]


def either(option: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """One of them, or all for "both"."""
    chosen = choice(option, given, [*known, "both"])
    return tuple(known) if chosen == "both" else (chosen,)


def shard_of(text: str) -> tuple[int, int]:
    """I/N as (I, N)."""
    from sshconvert.errors import UsageError
    from sshconvert.numerals import whole_number
    from sshconvert.schema import one_line

    try:
        which, count = map(whole_number, text.split("/"))
    except ValueError:
        which, count = 0, 0
    if not 0 < which <= count:
        raise UsageError(f"--shard: {one_line(text)!r} is not I/N with I from 1 to N; write for example 2/4")
    return which, count


def shape_of(text: str) -> Shape | None:
    """N,C,H,W as a shape; None for no text."""
    from sshconvert.errors import UsageError
    from sshconvert.numerals import whole_number
    from sshconvert.schema import one_line

    if not text:
        return None
    try:
        shape = tuple(whole_number(part.strip()) for part in text.strip("[]() ").replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or 0 in shape:
        raise UsageError(f"--input-shape: {one_line(text)!r} is not N,C,H,W; write for example 1,3,640,640")
    limits.check_shape("--input-shape", shape)
    return shape


def check_few(given: Mapping[str, Sequence[object]]) -> None:
    """Raises UsageError for an option that is given too often."""
    for option, values in given.items():
        limits.check_number(option, values, limits.MOST_NAMED)


def check_exclusive(given: Mapping[str, object]) -> None:
    """Raises UsageError if more than one of the options has a value."""
    from sshconvert.errors import UsageError

    chosen = [option for option, value in given.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} contradict each other; give one")
