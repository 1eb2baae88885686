"""Strict validation of untrusted JSON and TOML, with one-line errors."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from typing import Annotated, Any, Final, NoReturn, TypeVar

import pydantic

from sshconvert.messages import printable

MOST_PROBLEMS: Final = 10
LONGEST_PROBLEM: Final = 200
LARGEST_TOML: Final = 24 << 10  # bytes: ten times a model's description
MOST_PARTS: Final = 200  # of a dotted key

TensorName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w[\w./-]*$", max_length=100)]
Positive = Annotated[int, pydantic.Field(gt=0)]
Dimension = Annotated[int, pydantic.Field(gt=0, le=1 << 14)]
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Strict(pydantic.BaseModel):
    """A schema without unknown keys, NaN and infinities."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Schema = TypeVar("Schema", bound=pydantic.BaseModel)


def parse_json(schema: type[Schema], data: bytes) -> Schema:
    """Parse a JSON document.

    Raises ValueError with one line if the document is not JSON (NaN is not), if an object repeats a key, of which
    different readers would take different values, or if the document breaks the schema.
    """
    try:
        json.loads(data.decode(), object_pairs_hook=require_unique, parse_constant=refuse_constant)
        return schema.model_validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        raise ValueError(problems(error)) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(schema: type[Schema], data: bytes) -> Schema:
    """Parse a TOML document. Raises ValueError with one line if it is too long, is not TOML or breaks the schema.

    The time and memory of `tomllib` grow with the square of the parts of a key. A key ends with its line, so the limit
    is on the dots in a line.
    """
    if len(data) > LARGEST_TOML:
        raise ValueError(f"more than {LARGEST_TOML} bytes")
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > MOST_PARTS:
            raise ValueError(f"line {number} has more than {MOST_PARTS} dots")
    try:
        return schema.model_validate(tomllib.loads(data.decode()))
    except pydantic.ValidationError as error:
        raise ValueError(problems(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not TOML, or a number with thousands of digits
        raise ValueError(f"not valid TOML ({one_line(error)})") from None


def problems(error: pydantic.ValidationError) -> str:
    """Describe the first problems of a validation in one line."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [one_line(f"{'.'.join(map(str, item['loc']))}: {item['msg']}") for item in details[:MOST_PROBLEMS]]
    more = len(details) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def one_line(text: object) -> str:
    """Quote untrusted text in a message: without line breaks and control characters, and cut off if it is long."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= LONGEST_PROBLEM else f"{line[:LONGEST_PROBLEM]}…"


def require_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A hook of `json` that raises ValueError if an object repeats a key, which readers resolve differently."""
    keys = dict(pairs)
    if len(keys) != len(pairs):
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"the key {one_line(repeated[0])!r} appears more than once")
    return keys


def refuse_constant(constant: str) -> NoReturn:
    """A hook of `json` that raises ValueError for NaN and the infinities."""
    raise ValueError(f"{constant} is no JSON number")
