"""The JSON Schemas of the `result` that `sshtool verify --json` and `bench --json` print, made from the dataclasses.

`python -m sshtool.report.schema bench > tools/sshtool/report/bench.schema.json` writes the one that ships; without a
verb it is that of `verify`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema


class _Generator(GenerateJsonSchema):
    """Every key is there whatever its value, so that defaults say nothing; and names need no titles to repeat them."""

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True)
class _Result:
    """What a verb returns: its type, its version, and the name of the part (or "") that has the version as a key."""

    kind: type
    version: int
    key: str
    part: str = ""


def _result(verb: str) -> _Result:
    if verb == "bench":
        from sshtool.bench.figures import BENCH_VERSION, BenchResult

        return _Result(BenchResult, BENCH_VERSION, "bench_version")
    from sshtool.commands.verify import VerifyResult
    from sshtool.parity.verify import REPORT_VERSION

    return _Result(VerifyResult, REPORT_VERSION, "report_version", "VerifyReport")


def make_schema(verb: str = "verify") -> dict[str, Any]:
    """The schema as the code has it. It allows keys that it does not know, because a new key is no new version."""
    result = _result(verb)
    made = TypeAdapter(result.kind).json_schema(mode="serialization", schema_generator=_Generator)
    part = made["$defs"][result.part] if result.part else made
    part["properties"][result.key] = {"const": result.version}
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": f"sshtool {verb}, version {result.version}"}
    return {**head, **{key: value for key, value in made.items() if key != "title"}}


def dump_schema(verb: str = "verify") -> str:
    """The same as text: the bytes of the file that ships."""
    return json.dumps(make_schema(verb), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped_schema(verb: str = "verify") -> str:
    """The text of the file that ships."""
    return files(__package__).joinpath(f"{verb}.schema.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(dump_schema(*sys.argv[1:2]))
