"""The published JSON schemas as they were when they were stored, and what a later one takes away.

`python tests/support/stored_schemas.py` stores the present ones. It refuses where a schema takes something away and its
version does not rise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from sshtool.report.schema import KINDS, make_schema, version_of

STORED: Final = Path(__file__).with_name("stored_schemas.json")

Schema = dict[str, Any]


@cache
def present() -> dict[str, Schema]:
    return {name: {"version": version_of(name), "schema": make_schema(name)} for name in KINDS}


def stored() -> dict[str, Schema]:
    schemas: dict[str, Schema] = json.loads(STORED.read_bytes())
    return schemas


def broken(old: dict[str, Schema], new: dict[str, Schema]) -> list[str]:
    """What the new schemas take away within a version."""
    lost = [name for name in old if name not in new]
    for name in old.keys() & new.keys():
        if new[name]["version"] <= old[name]["version"]:
            lost += changes(old[name]["schema"], new[name]["schema"], name)
    return sorted(lost)


def changes(old: Schema, new: Schema, place: str) -> list[str]:
    """The places where documents of the new schema may lack what the old one promised."""
    return list(dict.fromkeys(_Comparison(old, new).compare(old, new, place)))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old.get("$defs", {}), new.get("$defs", {})
        self._under_way: set[tuple[str, str]] = set()

    def compare(self, old: Any, new: Any, place: str) -> Iterator[str]:
        if isinstance(old, bool) or isinstance(new, bool):  # anything, or nothing
            if isinstance(old, dict):
                yield f"{place}: may be anything"
            return
        names = (str(old.get("$ref", id(old))), str(new.get("$ref", id(new))))
        if names in self._under_way:
            return
        self._under_way.add(names)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        known, offered = _alternatives(old), _alternatives(new)
        if len(known) == len(offered) == 1:
            yield from self._values(known[0], offered[0], place)
            yield from self._keys(known[0], offered[0], place)
            yield from self._items(known[0], offered[0], place)
        else:
            for one in known:
                yield from min((list(self.compare(one, other, place)) for other in offered), key=len)
        self._under_way.discard(names)

    def _values(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        for word in ("type", "const", "format"):
            if old.get(word) != new.get(word):
                yield f"{place}: {word} {old.get(word)} became {new.get(word)}"
        if gone := [value for value in old.get("enum", ()) if value not in new.get("enum", ())]:
            yield f"{place}: lost the values {gone}"

    def _keys(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        required = set(old.get("required", ())) - set(new.get("required", ()))
        for key, value in old.get("properties", {}).items():
            if key not in new.get("properties", {}):
                yield f"{place}.{key}: was removed"
                continue
            if key in required:
                yield f"{place}.{key}: is no longer in every document"
            yield from self.compare(value, new["properties"][key], f"{place}.{key}")

    def _items(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        for word in ("items", "additionalProperties"):
            if word in old:
                yield from self.compare(old[word], new.get(word, True), f"{place}[]")
        others = new.get("prefixItems", ())
        if len(others) < len(old.get("prefixItems", ())):
            yield f"{place}: has fewer items"
        for number, (item, other) in enumerate(zip(old.get("prefixItems", ()), others, strict=False)):
            yield from self.compare(item, other, f"{place}[{number}]")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _alternatives(schema: Schema) -> list[Any]:
    return list(schema.get("anyOf") or schema.get("oneOf") or [schema])


def main() -> None:
    new = present()
    if STORED.exists() and (lost := broken(stored(), new)):
        sys.exit("raise the version, or keep these:\n" + "\n".join(lost))
    STORED.write_text(json.dumps(new, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
