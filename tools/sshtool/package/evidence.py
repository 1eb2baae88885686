"""What other verbs found out about the artifacts: read back from their JSON documents, and trusted for the very bytes
that they name, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import pydantic

from sshconvert.errors import PackageError
from sshconvert.messages import shown
from sshconvert.models.spec import Sha256
from sshconvert.reading import read_small
from sshconvert.schema import one_line, parse_json, problems
from sshconvert.tasks.tolerances import PROFILES
from sshtool.document import SCHEMA_VERSION
from sshtool.evaluate import omz, wider
from sshtool.package.manifest import Verification
from sshtool.parity.samples import sample_names
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import REPORT_VERSION, ArtifactReport, VerifyReport
from sshtool.wider_face.ground_truth import ALL, SETTINGS

LARGEST_DOCUMENT: Final = 64 << 20

Files = Mapping[str, Sha256]
Text = Annotated[str, pydantic.StringConstraints(max_length=200)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
# Of images, faces, cores and sides of an image: more than any honest document has.
Count = Annotated[int, pydantic.Field(ge=0, le=1_000_000_000)]
# Seconds of a computation, or images a second.
Rate = Annotated[float, pydantic.Field(gt=0, le=1_000_000)]

_SETTINGS: Final = {omz.PROTOCOL: (omz.SETTING,), wider.PROTOCOL: (*SETTINGS, ALL)}


class _Lenient(pydantic.BaseModel):
    """Of a document only what is used here. Unknown keys are no error: a new one is no new version."""

    model_config = pydantic.ConfigDict(frozen=True, allow_inf_nan=False)


class _Head(_Lenient):
    schema_version: int
    verb: Text
    ok: bool


class Setting(_Lenient):
    """A figure of an evaluation: of the setting's faces, from 0 to 1."""

    setting: Text
    average_precision: Share
    faces: Count


class Protocol(_Lenient):
    """How it was evaluated, and on how many images."""

    protocol: Text
    input: Text
    images: Count
    settings: tuple[Setting, ...]

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> Protocol:
        named = [item.setting for item in self.settings]
        if len(set(named)) < len(named) or not set(named) <= set(_SETTINGS.get(self.protocol, ())):
            raise ValueError(f"{shown(self.protocol)} with the settings {shown(named)} is no protocol of `evaluate`")
        return self


class EvaluatedArtifact(_Lenient):
    """The figures of one artifact, whose files have these hashes."""

    files: Files
    protocols: tuple[Protocol, ...]


class _Evaluation(_Lenient):
    model: Text
    artifacts: tuple[EvaluatedArtifact, ...]


class Spread(_Lenient):
    median: Rate


class Speed(_Lenient):
    """Seconds of a computation, and images a second."""

    seconds: Spread
    images_per_second: Spread


class BenchedArtifact(_Lenient):
    """How fast one artifact was with one runtime, whose files have these hashes. What was not measured is None."""

    files: Files
    runtime: Text
    inference_precision: Text
    input_shape: tuple[Count, Count, Count, Count]
    latency: Speed | None
    throughput: Speed | None


class Bench(_Lenient):
    """All of a benchmark, and the machine."""

    model: Text = ""
    threads: Count = 0
    cores: Count = 0
    environment: Mapping[Text, Text] = {}
    candidates: tuple[BenchedArtifact, ...] = ()


class _BenchDocument(_Head):
    result: Bench


class _EvaluationDocument(_Head):
    result: _Evaluation


Document = TypeVar("Document", _EvaluationDocument, _BenchDocument)


class _VerifyDocument(_Head):
    result: Any


@dataclass(frozen=True)
class Evidence:
    """The verification, and for each of its artifacts the hashes of the files that were run.

    What was held to another precision's tolerances than its own, by `--profile` or because it was computed in bf16, has
    not passed: it only shows that it is close enough for that.
    """

    report: VerifyReport

    def about(self, hashes: Mapping[str, str]) -> ArtifactReport | None:
        """The report of the artifact that passed with exactly these files, whatever they are called now."""
        wanted = sorted(hashes.values())
        passed = (
            item
            for item in self.report.artifacts
            if item.passed and item.profile.name == item.declaration.precision and _is_whole(item)
        )
        return next((item for item in passed if sorted(item.files.values()) == wanted), None)


def _is_whole(report: ArtifactReport) -> bool:
    """Whether it was compared on all standard samples that its precision is compared on."""
    compared = {item.sample for item in report.samples if item.tensors or item.detections}
    return set(sample_names()) <= compared | PROFILES[report.profile.name].left_out.keys()


def verification_of(report: VerifyReport | None, verified: Iterable[bool]) -> Verification:
    """What a manifest says of a report on its models, of which each is `verified` or not."""
    return Verification(
        status="passed" if report is not None and all(verified) else "unverified",
        reference=report.reference if report else "",
        notes=report.notes if report else (),
    )


def read_verification(path: Path, model: str) -> Evidence:
    """Read what `sshtool verify --json` printed or left beside the artifacts.

    Raises PackageError if it cannot be read, is of another version or model, or is no such document.
    """
    data = _read(path, "sshtool verify")
    try:
        document = parse_json(_VerifyDocument, data)
        _check_head(document, "verify")
        result = _results().validate_python(document.result)
    except pydantic.ValidationError as error:
        raise _refused(path, ValueError(problems(error)), "sshtool verify") from None
    except ValueError as error:
        raise _refused(path, error, "sshtool verify") from None
    report = result.report
    if report.report_version != REPORT_VERSION or report.model != model:
        raise PackageError(
            f"{path}: is version {report.report_version} and about {one_line(report.model)}, expected version "
            f"{REPORT_VERSION} about {model}; run `sshtool verify` again"
        )
    return Evidence(report)


def read_evaluation(path: Path, model: str) -> tuple[EvaluatedArtifact, ...]:
    """Read what `sshtool evaluate --json` printed. Raises PackageError likewise."""
    return _measured(path, model, _EvaluationDocument, "evaluate").result.artifacts


def read_bench(path: Path, model: str) -> Bench:
    """Read what `sshtool bench --json` printed. Raises PackageError likewise."""
    return _measured(path, model, _BenchDocument, "bench").result


def _measured(path: Path, model: str, schema: type[Document], verb: str) -> Document:
    maker = f"sshtool {verb} --json"
    data = _read(path, maker)
    try:
        document = parse_json(schema, data)
        _check_head(document, verb)
    except ValueError as error:
        raise _refused(path, error, maker) from None
    if document.result.model != model:
        raise PackageError(
            f"{path}: is about {one_line(document.result.model)}, not about {model}; make it for that one"
        )
    return document


@cache
def _results() -> pydantic.TypeAdapter[VerifyResult]:
    return pydantic.TypeAdapter(VerifyResult)


def _check_head(document: _Head, verb: str) -> None:
    if (document.schema_version, document.verb) != (SCHEMA_VERSION, verb):
        raise ValueError(
            f"it is version {document.schema_version} of {document.verb}, expected {SCHEMA_VERSION}, {verb}"
        )


def _read(path: Path, maker: str) -> bytes:
    try:
        return read_small(path, LARGEST_DOCUMENT)
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); `{maker}` makes it") from None


def _refused(path: Path, error: ValueError, maker: str) -> PackageError:
    return PackageError(f"{path}: is not what `{maker}` writes ({one_line(error)}); make it again")
