"""The JSON document in which a verb puts its result, for whoever reads it: a machine, or another verb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

# Of the envelope. A new key does not change it; a changed meaning does.
SCHEMA_VERSION: Final = 1


def dump(verb: str, body: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """The document as text, with a line break behind it: the same body, the same text."""
    document = {"schema_version": SCHEMA_VERSION, "verb": verb, **body}
    return json.dumps(document, indent=indent, default=str, allow_nan=False) + "\n"


def dump_result(verb: str, result: Any, *, passed: bool) -> str:
    """The document of a verb that ended with `result`, a dataclass."""
    return dump(verb, {"ok": passed, "result": asdict(result)})
