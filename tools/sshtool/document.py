"""The JSON document of a verb's result, for other programs and other verbs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.messages import name_text, without_surrogates

# The version of the envelope. A change of meaning raises it; a new key does not.
SCHEMA_VERSION: Final = 1


class Error(TypedDict):
    """An error: the name of its class, and the line on stderr."""

    type: str
    message: str


class Done(TypedDict):
    """The document of a completed verb. `ok` is False if the verb found a difference; `result` depends on the verb."""

    schema_version: Literal[1]
    verb: str
    ok: bool
    result: dict[str, Any]


class Failed(TypedDict):
    """The document of a failed verb."""

    schema_version: Literal[1]
    verb: str
    ok: Literal[False]
    error: Error


Document: TypeAlias = Done | Failed


def dump(verb: str, body: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """Serialize the document, with a final line break. The same body gives the same text."""
    document = {"schema_version": SCHEMA_VERSION, "verb": verb, **body}
    return json.dumps(plain(document), indent=indent, allow_nan=False) + "\n"


def dump_result(verb: str, result: Any, *, passed: bool) -> str:
    """Serialize the document of a completed verb, whose result is a dataclass."""
    return dump(verb, {"ok": passed, "result": result})


def plain(value: Any) -> Any:
    """Convert a value to JSON types: dataclasses and schemas to objects, paths by `name_text`, text to valid UTF-8.

    Raises TypeError for other types.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, os.PathLike):
        return name_text(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    members = value
    if isinstance(value, BaseModel):
        members = value.model_dump()
    elif is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(members, Mapping):
        return {_key(key): plain(item) for key, item in members.items()}
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a JSON object's key is a string, not {type(key).__name__}")
    return without_surrogates(key)
