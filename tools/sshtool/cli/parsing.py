"""Parses the text of options. Every function raises UsageError that names the option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sshconvert.errors import UsageError
from sshconvert.messages import shown
from sshconvert.numerals import number, whole_number
from sshtool import limits

if TYPE_CHECKING:
    from sshconvert.graph import Shape
    from sshconvert.models.spec import InputSpec


def choices(option: str, texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The distinct values in texts that separate them by commas, in the spelling of `known`."""
    names = {name.casefold(): name for name in known}
    items = [item.strip() for text in texts for item in text.split(",") if item.strip()]
    unknown = [item for item in items if item.casefold() not in names]
    if unknown or not items:
        raise UsageError(f"{option}: {', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}")
    return list(dict.fromkeys(names[item.casefold()] for item in items))


def choice(option: str, text: str, known: Sequence[str]) -> str:
    """Exactly one value, in the spelling of `known`."""
    chosen = choices(option, [text], known)
    if len(chosen) > 1:
        raise UsageError(f"{option}: {text} is more than one; give one of {', '.join(known)}")
    return chosen[0]


def one_or_both(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """One value, or all of `known` for "both"."""
    chosen = choice(option, text, [*known, "both"])
    return tuple(known) if chosen == "both" else (chosen,)


def shard_of(text: str) -> tuple[int, int]:
    """I/N as (I, N)."""
    try:
        number, count = map(whole_number, text.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 0 < number <= count:
        raise UsageError(f"--shard: {shown(text)} is not I/N with I from 1 to N; write for example 2/4")
    return number, count


def shape_of(text: str) -> Shape | None:
    """N,C,H,W as a shape; None for an empty text."""
    if not text:
        return None
    shape = _sizes_of(text)
    if len(shape) != 4 or 0 in shape:
        raise UsageError(f"--input-shape: {shown(text)} is not N,C,H,W; write for example 1,3,640,640")
    limits.check_shape("--input-shape", shape)
    return shape


def _sizes_of(text: str) -> Shape:
    """Sizes as "1,3,48,48", "1x3x48x48" or "(5,)"; empty for any other text."""
    inner = text.strip("[]() ")
    if inner != text.strip():  # a tuple of one number ends with a comma
        inner = inner.removesuffix(",")
    try:
        return tuple(whole_number(part.strip()) for part in inner.replace("x", ",").split(","))
    except ValueError:
        return ()


def input_of(text: str) -> InputSpec:
    """NAME=SHAPE or NAME=SHAPE:TYPE as an input."""
    from pydantic import ValidationError

    from sshconvert.models.spec import InputSpec
    from sshconvert.schema import problems

    name, _, rest = text.rpartition("=")
    sizes, _, dtype = rest.partition(":")
    shape = _sizes_of(sizes)
    if not name or not shape or 0 in shape:
        raise UsageError(f"--input: {shown(text)} is not NAME=SHAPE; write for example data=1,3,112,112")
    limits.check_elements(f"--input {name}", shape)
    try:
        return InputSpec.model_validate({"name": name.strip(), "shape": shape, "dtype": dtype.strip() or "float32"})
    except ValidationError as error:
        raise UsageError(f"--input: {shown(text)}: {problems(error)}") from None


def mean_of(text: str) -> tuple[float, float, float]:
    """Three numbers from 0 to 255, or one for all channels; zeros for an empty text."""
    try:
        values = [number(part) for part in text.strip("[]() ").replace(" ", ",").split(",") if part] or [0.0]
    except ValueError:
        values = []
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise UsageError(
            f"--mean: {shown(text)} is not three numbers from 0 to 255; write for example 123.68,116.8,103.9"
        )
    return values[0], values[1], values[2]


def check_counts(values: Mapping[str, Sequence[object]]) -> None:
    """Raises UsageError for an option that is repeated more often than `limits.MOST_NAMED`."""
    for option, given in values.items():
        limits.check_number(option, given, limits.MOST_NAMED)


def check_exclusive(values: Mapping[str, object]) -> None:
    """Raises UsageError if more than one of the options has a value."""
    chosen = [option for option, value in values.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} contradict each other; give one")
