"""Within a version of a published schema, keys are added, never changed or removed."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import pytest

from sshtool.report.schema import KINDS, shipped_schema, version_of
from stored_schemas import broken, present, stored

pytestmark = pytest.mark.independent

COMMAND: Final = "python tests/support/stored_schemas.py"


def test_the_schemas_keep_what_the_stored_ones_promise() -> None:
    assert broken(stored(), present()) == [], "raise the version in the code, or keep the keys"


def test_every_schema_is_stored_with_its_version() -> None:
    assert stored().keys() == KINDS.keys(), f"run `{COMMAND}` and commit what it writes"
    for name in KINDS:
        assert json.loads(shipped_schema(name))["title"] == f"sshtool {name}, version {version_of(name)}"


def faulty(name: str, fault: str) -> dict[str, Any]:
    """The present schemas with a fault in one, in an object with keys: that of the result or of its first part."""
    schemas = {name: copy.deepcopy(present()[name])}
    schema = schemas[name]["schema"]
    holder = (
        schema
        if "properties" in schema
        else next(iter(item for item in schema["$defs"].values() if "properties" in item))
    )
    key = next(key for key in holder["properties"] if key in holder["required"])
    if fault == "removed":
        del holder["properties"][key]
        holder["required"].remove(key)
    elif fault == "renamed":
        holder["properties"]["another"] = holder["properties"].pop(key)
    elif fault == "optional":
        holder["required"].remove(key)
    else:
        holder["properties"][key] = {"type": "null"}
    return schemas


@pytest.mark.parametrize("fault", ["removed", "renamed", "optional", "of another type"])
@pytest.mark.parametrize("name", ["convert", "info", "evaluate", "verify", "manifest"])
def test_a_lost_key_fails_unless_the_version_rises(name: str, fault: str) -> None:
    schemas = faulty(name, fault)
    before = {name: present()[name]}
    assert broken(before, schemas)
    schemas[name]["version"] += 1
    assert broken(before, schemas) == []


def test_a_new_key_and_a_new_alternative_are_allowed() -> None:
    schemas = copy.deepcopy(present())
    schemas["convert"]["schema"]["properties"]["more"] = {"type": "string"}
    schemas["info"]["schema"]["anyOf"].append({"type": "object", "properties": {}, "required": []})
    assert broken(present(), schemas) == []


def test_a_schema_that_no_longer_ships_fails() -> None:
    schemas = {name: item for name, item in present().items() if name != "bench"}
    assert broken(present(), schemas) == ["bench"]
