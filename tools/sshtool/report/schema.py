"""Generates the JSON Schemas of commands' output and of packages from the result types.

The schema of a command describes its `result`; those of `detect` and `predict` describe a line. `document` describes
the envelope of a result or an error, `event` a line of `download --progress-format json`, `manifest` a package's
`manifest.json`.

`python -m sshtool.report.schema all` writes the shipped files, `python -m sshtool.report.schema bench` prints one.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

# The type behind each schema.
KINDS: Final = {
    "bench": "sshtool.bench.figures.BenchResult",
    "check": "sshtool.package.check.CheckResult",
    "convert": "sshtool.conversion.ConvertResult",
    "demo-dataset": "sshtool.demo.recognition_dataset.DrawnResult",
    "detect": "sshtool.results.outcomes.Line",
    "document": "sshtool.document.Document",
    "download": "sshtool.checkpoint.download.DownloadResult",
    "evaluate": "sshtool.evaluate.recognition.AnyEvaluation",
    "event": "sshtool.report.transfer.Event",
    "info": "sshtool.inspection.AnyInfo",
    "manifest": "sshtool.package.manifest.Manifest",
    "models": "sshtool.catalogue.ModelsResult",
    "package": "sshtool.package.build.PackageResult",
    "predict": "sshtool.prediction.Line",
    "reference": "sshtool.parity.recording.ReferenceResult",
    "run": "sshtool.pipeline.RunResult",
    "verify": "sshtool.parity.verification.VerifyResult",
}


# For each versioned result, its version, its key, and the definition that holds the key ("" for the result itself).
VERSIONS: Final = {
    "bench": ("sshtool.bench.figures.BENCH_VERSION", "bench_version", ""),
    "verify": ("sshtool.parity.verify.REPORT_VERSION", "report_version", "VerifyReport"),
}


class _Generator(GenerateJsonSchema):
    """Leaves out defaults, because the output holds every key, and titles, because they repeat the names."""

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] != "typed-dict-field" or bool(field.get("required", total))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _import(path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    return getattr(import_module(module), attribute)


def make_schema(name: str = "verify") -> dict[str, Any]:
    """Generate a schema. It allows unknown keys, because a new key does not change the version."""
    schema = TypeAdapter(_import(KINDS[name])).json_schema(mode="serialization", schema_generator=_Generator)
    if name in VERSIONS:
        _, key, definition = VERSIONS[name]
        holder = schema["$defs"][definition] if definition else schema
        holder["properties"][key] = {"const": version_of(name)}
    title = f"sshtool {name}, version {version_of(name)}"
    return {**schema, "$schema": GenerateJsonSchema.schema_dialect, "title": title}


def version_of(name: str) -> int:
    """Return the version of a schema: the result's own, or that of the document. Within it, keys are only added."""
    version: int = _import(VERSIONS[name][0] if name in VERSIONS else "sshtool.document.SCHEMA_VERSION")
    return version


def dump_schema(name: str = "verify") -> str:
    """Generate the text of a shipped file."""
    return json.dumps(make_schema(name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped_schema(name: str = "verify") -> str:
    """Read the text of a shipped file."""
    return files(__package__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")


def main(name: str = "verify") -> None:
    """Print the schema `name`, or write all for "all"."""
    if name != "all":
        sys.stdout.write(dump_schema(name))
        return
    for known in KINDS:
        Path(__file__).with_name(f"{known}.schema.json").write_text(dump_schema(known), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
