"""The bill of materials: CycloneDX 1.6 in JSON, with the model as a machine-learning component and its model card.

CycloneDX's own library has no model cards. The tests validate the bill against the official schema.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sshconvert import __version__
from sshconvert.models.spec import ModelSpec
from sshtool.package.bundle import source_date
from sshtool.package.manifest import PackagedFile, PackagedModel, Provenance, Tensor
from sshtool.package.web.runtime import Vendored

FILE: Final = "bom.cdx.json"

# Namespace of the package's UUID, which depends on its contents alone.
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")


def dump_bill(
    model: ModelSpec,
    source: Provenance,
    models: Iterable[PackagedModel],
    files: Iterable[PackagedFile],
    metrics: Iterable[Mapping[str, str]],
    versions: Mapping[str, str],
    licence: str,
    vendored: Vendored | None = None,
) -> bytes:
    """The bytes of the bill of all `files` but itself. `metrics` are CycloneDX's performance metrics."""
    files, models = list(files), list(models)
    digest = "".join(file.sha256 for file in files)
    paths = {model.path for model in models}
    libraries = map(_library, sorted(versions.items()))
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(source_date())),
            "tools": {"components": [{"type": "application", "name": "sshtool", "version": __version__}]},
            "component": _component(model, source, models[0], list(metrics), licence),
        },
        "components": [*(_file(file, paths) for file in files), *filter(None, libraries), *_vendored(vendored)],
    }
    return (json.dumps(bill, indent=2, ensure_ascii=False) + "\n").encode()


def _component(
    model: ModelSpec, source: Provenance, first: PackagedModel, metrics: list[Mapping[str, str]], licence: str
) -> dict[str, Any]:
    card: dict[str, Any] = {
        "modelParameters": {
            "task": model.task.pipeline_tag or "other",
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": model.title or model.name,
            "inputs": [{"format": _tensor(item)} for item in (first.input, *first.other_inputs)],
            "outputs": [{"format": _tensor(output)} for output in first.outputs],
        }
    }
    if model.licence.note:
        card["considerations"] = {"technicalLimitations": [model.licence.note]}
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    component = {
        "type": "machine-learning-model",
        "bom-ref": model.name,
        "name": model.name,
        "description": model.title or model.name,
        "licenses": [{"license": {"name": licence}}] if licence else [],
        "externalReferences": [
            {"type": reference_type, "url": url}
            for reference_type, url in (("website", model.homepage), ("documentation", model.paper))
            if url
        ],
        "modelCard": card,
        "properties": [
            {"name": "sshtool:weights", "value": source.weights},
            *({"name": f"sshtool:checkpoint:{name}", "value": value} for name, value in source.checkpoint.items()),
        ],
    }
    if source.archive_sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": source.archive_sha256}]
    return component


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"


def _file(file: PackagedFile, models: Collection[str]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model" if file.path in models else "file",
        "bom-ref": file.path,
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [{"name": "sshtool:role", "value": file.role.value}],
    }


def _library(item: tuple[str, str]) -> dict[str, Any]:
    """A Python library of the conversion or verification; empty for a fact about the machine."""
    name, version = item
    if not version[:1].isdigit() or name in ("python", "processor", "platform", "sshtool"):
        return {}
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "scope": "excluded"}


def _vendored(package: Vendored | None) -> list[dict[str, Any]]:
    """The npm package whose files are in this one."""
    if package is None:
        return []
    purl = f"pkg:npm/{package.name}@{package.version}"
    component = {"type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl}
    return [component | {"licenses": [{"license": {"id": "MIT"}}], "copyright": package.copyright}]
