"""The JSON Schemas of all JSON that verbs print and packages hold, generated from the types.

A verb's schema describes its `result`, and that of `detect` a line. `document` describes the envelope of a result or an
error, `event` a line of `download --progress-format json`, `manifest` the `manifest.json` of a package.

`python -m sshtool.report.schema all` writes the files that ship, `python -m sshtool.report.schema bench` prints one.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

# Module and name of what each is made from.
KINDS: Final = {
    "bench": "sshtool.bench.figures.BenchResult",
    "check": "sshtool.package.check.CheckResult",
    "convert": "sshtool.conversion.ConvertResult",
    "demo-dataset": "sshtool.demo.dataset.DatasetResult",
    "detect": "sshtool.detection.Line",
    "document": "sshtool.document.Document",
    "download": "sshtool.checkpoint.download.DownloadResult",
    "evaluate": "sshtool.evaluate.figures.EvaluateResult",
    "event": "sshtool.report.transfer.Event",
    "info": "sshtool.checkpoint.info.InfoResult",
    "manifest": "sshtool.package.manifest.Manifest",
    "package": "sshtool.package.build.PackageResult",
    "reference": "sshtool.parity.recording.ReferenceResult",
    "run": "sshtool.pipeline.RunResult",
    "verify": "sshtool.parity.verification.VerifyResult",
}


class _Generator(GenerateJsonSchema):
    """Every key is there whatever its value, so that defaults say nothing; and names need no titles to repeat them."""

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] != "typed-dict-field" or bool(field.get("required", total))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True)
class _Version:
    """The version of a result, the key that has it, and the name of the part (or "") in which that is."""

    number: int
    key: str
    part: str = ""


def _version(name: str) -> _Version | None:
    if name == "bench":
        from sshtool.bench.figures import BENCH_VERSION

        return _Version(BENCH_VERSION, "bench_version")
    if name == "verify":
        from sshtool.parity.verify import REPORT_VERSION

        return _Version(REPORT_VERSION, "report_version", "VerifyReport")
    return None


def make_schema(name: str = "verify") -> dict[str, Any]:
    """The schema as the code has it. It allows keys that it does not know, because a new key is no new version."""
    module, _, kind = KINDS[name].rpartition(".")
    made = TypeAdapter(getattr(import_module(module), kind)).json_schema(
        mode="serialization", schema_generator=_Generator
    )
    version = _version(name)
    title = f"sshtool {name}" + (f", version {version.number}" if version else "")
    if version:
        part = made["$defs"][version.part] if version.part else made
        part["properties"][version.key] = {"const": version.number}
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": title}
    return {**head, **{key: value for key, value in made.items() if key != "title"}}


def dump_schema(name: str = "verify") -> str:
    """The same as text: the bytes of the file that ships."""
    return json.dumps(make_schema(name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped_schema(name: str = "verify") -> str:
    """The text of the file that ships."""
    return files(__package__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")


def main(name: str = "verify") -> None:
    """Print that schema, or write `all` of them into this package."""
    if name != "all":
        sys.stdout.write(dump_schema(name))
        return
    for known in KINDS:
        Path(__file__).with_name(f"{known}.schema.json").write_text(dump_schema(known), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
