"""The JSON document in which a verb puts its result, for whoever reads it: a machine, or another verb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.messages import name_text, without_surrogates

# Of the envelope. A new key does not change it; a changed meaning does.
SCHEMA_VERSION: Final = 1


class Error(TypedDict):
    """An error: the name of its class, and the line that stderr has too."""

    type: str
    message: str


class Done(TypedDict):
    """The document of a verb that came to its end: `ok` says whether all is well, `result` is the verb's own."""

    schema_version: Literal[1]
    verb: str
    ok: bool
    result: dict[str, Any]


class Failed(TypedDict):
    """The document of a verb that did not."""

    schema_version: Literal[1]
    verb: str
    ok: Literal[False]
    error: Error


Document: TypeAlias = Done | Failed


def dump(verb: str, body: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """The document as text, with a line break behind it: the same body, the same text."""
    document = {"schema_version": SCHEMA_VERSION, "verb": verb, **body}
    return json.dumps(plain(document), indent=indent, allow_nan=False) + "\n"


def dump_result(verb: str, result: Any, *, passed: bool) -> str:
    """The document of a verb that ended with `result`, a dataclass."""
    return dump(verb, {"ok": passed, "result": result})


def plain(value: Any) -> Any:
    """The value as JSON has it: dataclasses and schemas as objects, paths as `name_text` writes them, all of it UTF-8.

    Raises TypeError for what is none of these: what a reader cannot know is not written.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, PurePath):
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
        raise TypeError(f"{type(key).__name__} is no name of a JSON object's member")
    return without_surrogates(key)
