"""Reads the JSON documents of `verify`, `evaluate` and `bench`. Each applies only to files with the hashes in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import pydantic

from sshconvert.errors import PackageError
from sshconvert.messages import shown
from sshconvert.models.spec import ModelSpec, Sha256
from sshconvert.reading import read_small
from sshconvert.schema import one_line, parse_json, problems
from sshconvert.tasks.base import Task
from sshconvert.tasks.tolerances import PROFILES
from sshtool.document import SCHEMA_VERSION
from sshtool.evaluate import imagenet, lfw, omz, wider
from sshtool.package.manifest import Verification
from sshtool.parity.samples import exact_samples, sample_names
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import REPORT_VERSION, ArtifactReport, VerifyReport
from sshtool.wider_face.ground_truth import ALL, SETTINGS

LARGEST_DOCUMENT: Final = 64 << 20

Files = Mapping[str, Sha256]
Text = Annotated[str, pydantic.StringConstraints(max_length=200)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
# Images, faces, cores or sides of an image.
Count = Annotated[int, pydantic.Field(ge=0, le=1_000_000_000)]
# Seconds of a computation, or images a second.
Rate = Annotated[float, pydantic.Field(gt=0, le=1_000_000)]

_SETTINGS: Final = {
    omz.PROTOCOL: (omz.SETTING,),
    wider.PROTOCOL: (*SETTINGS, ALL),
    lfw.PROTOCOL: (lfw.MEASURE,),
    imagenet.PROTOCOL: imagenet.MEASURES,
}


class _Lenient(pydantic.BaseModel):
    """The part of a document that a package uses. Unknown keys are ignored, as a new key is no new version."""

    model_config = pydantic.ConfigDict(frozen=True, allow_inf_nan=False)


class _Head(_Lenient):
    schema_version: int
    verb: Text
    ok: bool


class Setting(_Lenient):
    """The average precision on the faces of one setting, from 0 to 1; of other tasks an accuracy and the images."""

    setting: Text
    average_precision: Share
    faces: Count


class Protocol(_Lenient):
    """The figures of one protocol, and the number of images."""

    protocol: Text
    input: Text
    images: Count
    settings: tuple[Setting, ...]

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> Protocol:
        names = [item.setting for item in self.settings]
        if len(set(names)) < len(names) or not set(names) <= set(_SETTINGS.get(self.protocol, ())):
            raise ValueError(f"{shown(self.protocol)} with the settings {shown(names)} is no protocol of `evaluate`")
        return self


class MeasuredShare(_Lenient):
    """An accuracy of an embedder or a classifier, from 0 to 1."""

    name: Text
    share: Share


class EvaluatedArtifact(_Lenient):
    """The figures of the artifact whose files have these hashes."""

    files: Files
    protocols: tuple[Protocol, ...] = ()
    measures: tuple[MeasuredShare, ...] = ()


class _Evaluation(_Lenient):
    model: Text
    protocol: Text = ""
    input: Text = ""
    images: Count = 0
    artifacts: tuple[EvaluatedArtifact, ...]

    @pydantic.model_validator(mode="after")
    def _has_figures(self) -> _Evaluation:
        for item in self.artifacts:
            if not item.protocols and not item.measures:
                raise ValueError("artifacts: one has no figures")
            self.with_protocol(item)
        return self

    def with_protocol(self, item: EvaluatedArtifact) -> EvaluatedArtifact:
        """Read the measures of an embedder or a classifier as the settings of its protocol."""
        if not item.measures:
            return item
        settings = tuple(
            Setting(setting=one.name, average_precision=one.share, faces=self.images) for one in item.measures
        )
        protocol = Protocol(protocol=self.protocol, input=self.input, images=self.images, settings=settings)
        return item.model_copy(update={"protocols": (protocol,), "measures": ()})


class Spread(_Lenient):
    median: Rate


class Speed(_Lenient):
    """Seconds of a computation, and images a second."""

    seconds: Spread
    images_per_second: Spread


class BenchedArtifact(_Lenient):
    """The speed of the artifact whose files have these hashes, with one runtime. None: not measured."""

    files: Files
    runtime: Text
    inference_precision: Text
    input_shape: tuple[Count, Count, Count, Count]
    latency: Speed | None
    throughput: Speed | None


class Bench(_Lenient):
    """The candidates of a benchmark, and the machine."""

    model: Text = ""
    threads: Count = 0
    cores: Count = 0
    environment: Mapping[Text, Text] = {}
    candidates: tuple[BenchedArtifact, ...] = ()


class _BenchDocument(_Head):
    result: Bench


class _EvaluationDocument(_Head):
    result: _Evaluation


class _VerifyDocument(_Head):
    result: Any


Document = TypeVar("Document", bound=_Head)
Measured = TypeVar("Measured", _EvaluationDocument, _BenchDocument)


@dataclass(frozen=True)
class Evidence:
    """The report of a verification, with the hashes of each artifact's files, and the task of its model.

    An artifact has not passed if it was compared with another precision's tolerances, because of `--profile` or because
    the runtime computed in bf16.
    """

    report: VerifyReport
    task: Task

    def about(self, hashes: Mapping[str, str]) -> ArtifactReport | None:
        """The report of an artifact that passed with exactly these hashes, under any file names."""
        digests = sorted(hashes.values())
        passed = (
            item
            for item in self.report.artifacts
            if item.passed and item.profile.name == item.declaration.precision and _is_complete(item, self.task)
        )
        return next((item for item in passed if sorted(item.files.values()) == digests), None)


def _is_complete(report: ArtifactReport, task: Task) -> bool:
    """Whether the report compares all standard samples of its precision, for the task."""
    compared = {item.sample for item in report.all_samples if item.tensors or item.detections}
    names = sample_names(tensors=bool(report.declaration.tensors))
    names = exact_samples(names) if report.rounded else names
    left_out = (
        report.skipped.keys() if report.declaration.tensors else task.left_out(PROFILES[report.profile.name]).keys()
    )
    return set(names) <= compared | left_out


def verification_of(report: VerifyReport | None, verified: Iterable[bool]) -> Verification:
    """The verification in a manifest, from the report and from whether each model is `verified`."""
    return Verification(
        status="passed" if report is not None and all(verified) else "unverified",
        reference=report.reference if report else "",
        notes=report.notes if report else (),
    )


def read_verification(path: Path, model: ModelSpec) -> Evidence:
    """Read the output of `sshtool verify --json`, or the record beside the artifacts.

    Raises PackageError if the file is unreadable, no such document, or of another version or model.
    """
    command = "sshtool verify"
    document = _read(path, _VerifyDocument, "verify", command)
    try:
        report = _results().validate_python(document.result).report
    except pydantic.ValidationError as error:
        raise _refused(path, problems(error), command) from None
    if report.report_version != REPORT_VERSION or report.model != model.name:
        raise PackageError(
            f"{path}: is version {report.report_version} and about {one_line(report.model)}, expected version "
            f"{REPORT_VERSION} about {model.name}; run `sshtool verify` again"
        )
    return Evidence(report, model.task)


def read_evaluation(path: Path, model: str) -> tuple[EvaluatedArtifact, ...]:
    """Read the output of `sshtool evaluate --json`. Raises PackageError."""
    result = _measured(path, model, _EvaluationDocument, "evaluate").result
    return tuple(map(result.with_protocol, result.artifacts))


def read_bench(path: Path, model: str) -> Bench:
    """Read the output of `sshtool bench --json`. Raises PackageError."""
    return _measured(path, model, _BenchDocument, "bench").result


def _measured(path: Path, model: str, schema: type[Measured], verb: str) -> Measured:
    document = _read(path, schema, verb, f"sshtool {verb} --json")
    if document.result.model != model:
        raise PackageError(
            f"{path}: is about {one_line(document.result.model)}, not about {model}; make it for this model"
        )
    return document


@cache
def _results() -> pydantic.TypeAdapter[VerifyResult]:
    return pydantic.TypeAdapter(VerifyResult)


def _read(path: Path, schema: type[Document], verb: str, command: str) -> Document:
    try:
        document = parse_json(schema, read_small(path, LARGEST_DOCUMENT))
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); `{command}` makes it") from None
    except ValueError as error:
        raise _refused(path, error, command) from None
    if (document.schema_version, document.verb) != (SCHEMA_VERSION, verb):
        problem = f"it is version {document.schema_version} of {document.verb}, expected {SCHEMA_VERSION}, {verb}"
        raise _refused(path, problem, command)
    return document


def _refused(path: Path, problem: object, command: str) -> PackageError:
    return PackageError(f"{path}: is not what `{command}` writes ({one_line(problem)}); make it again")
