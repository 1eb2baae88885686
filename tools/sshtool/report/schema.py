"""The JSON Schema of the `result` that `sshtool verify --json` prints, made from the dataclasses themselves.

`python -m sshtool.report.schema > tools/sshtool/report/verify.schema.json` writes the one that ships.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from sshtool.parity.verify import REPORT_VERSION

FILE: Final = "verify.schema.json"


class _Generator(GenerateJsonSchema):
    """Every key is there whatever its value, so that defaults say nothing; and names need no titles to repeat them."""

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def make_schema() -> dict[str, Any]:
    """The schema as the code has it. It allows keys that it does not know, because a new key is no new version."""
    from sshtool.commands.verify import VerifyResult

    made = TypeAdapter(VerifyResult).json_schema(mode="serialization", schema_generator=_Generator)
    made["$defs"]["VerifyReport"]["properties"]["report_version"] = {"const": REPORT_VERSION}
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": f"sshtool verify, version {REPORT_VERSION}"}
    return {**head, **{key: value for key, value in made.items() if key != "title"}}


def dump_schema() -> str:
    """The same as text: the bytes of the file that ships."""
    return json.dumps(make_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped_schema() -> str:
    """The text of the file that ships."""
    return files(__package__).joinpath(FILE).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(dump_schema())
