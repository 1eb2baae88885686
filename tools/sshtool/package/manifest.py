"""`manifest.json` and `SHA256SUMS`: the contents, the origin and the verification of a package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

import pydantic

from sshconvert.formats.registry import FORMATS
from sshconvert.models.spec import Sha256
from sshconvert.schema import Strict, one_line, parse_json
from sshconvert.tasks.inside import OutputForm
from sshtool.package.names import PackagePath, collision, fault

MANIFEST: Final = "manifest.json"
DESCRIPTION: Final = "model.toml"  # of a model that does not ship with sshtool
SUMS: Final = "SHA256SUMS"
LARGEST_MANIFEST: Final = 4 << 20
MOST_FILES: Final = 2000  # of a package
MOST_MODELS: Final = 100
MOST_TENSORS: Final = 100

_SUM: Final = re.compile(r"([0-9a-f]{64})  (.+)")


class Role(StrEnum):
    """The purpose of a file."""

    MODEL = "model"
    DESCRIPTION = "description"
    CARD = "model card"
    REPORT = "report"
    REFERENCE = "reference pack"
    BILL = "bill of materials"
    LICENCE = "licence"
    CONFIGURATION = "configuration"
    PAGE = "page"


Text = Annotated[str, pydantic.StringConstraints(max_length=1000)]
Size = Annotated[int, pydantic.Field(ge=0)]


class PackagedFile(Strict):
    """A file of the package, other than the manifest and `SHA256SUMS`."""

    path: PackagePath
    role: Role
    bytes: Size
    sha256: Sha256


class Tensor(Strict):
    """An input or output as the file declares it. A dimension of -1 is dynamic."""

    name: Text
    dtype: Text
    shape: tuple[int, ...]


class Thresholds(Strict):
    """Post-processing inside the model."""

    score_threshold: float
    iou_threshold: float
    top_k: int
    form: OutputForm = OutputForm.PLAIN


def _known_format(key: str) -> str:
    if key not in FORMATS:
        raise ValueError(f"expected one of {', '.join(FORMATS)}")
    return key


class PackagedModel(Strict):
    """A converted model: its main file, all of its files, its inputs and outputs, and whether it is verified.

    `input` is the first input. If the inputs are no image, `other_inputs` are the others, and the layout, the order of
    the channels and the mean are empty. `batched` says that the first dimension of every tensor is the free number of
    images.
    """

    label: Text
    format: Annotated[str, pydantic.AfterValidator(_known_format)]
    precision: Text
    path: PackagePath
    files: Annotated[tuple[PackagePath, ...], pydantic.Field(max_length=MOST_TENSORS)]
    input: Tensor
    other_inputs: Annotated[tuple[Tensor, ...], pydantic.Field(max_length=MOST_TENSORS)] = ()
    outputs: Annotated[tuple[Tensor, ...], pydantic.Field(max_length=MOST_TENSORS)]
    batched: bool = False
    input_layout: Literal["NCHW", "NHWC", ""]
    color_order: Literal["BGR", "RGB", ""]
    mean_values: Annotated[tuple[float, ...], pydantic.Field(max_length=3)]
    postprocessing: Thresholds | None
    options: Mapping[Text, Text]
    verified: bool


class Verification(Strict):
    """The reference of the verification and its outcome. "unverified": packaged with --allow-unverified."""

    status: Literal["passed", "unverified"]
    reference: Text
    notes: tuple[Text, ...]


class Provenance(Strict):
    """The checkpoint: "demo", "sha256:" and the archive's hash, or "params-sha256:" and the `.params` file's hash."""

    weights: Text
    archive_sha256: Sha256 | None
    checkpoint: Mapping[Text, Sha256]


class Manifest(Strict):
    """The description of a package. `versions` lists the tools and libraries of its conversion and verification."""

    manifest_version: Literal[1] = 1
    model: Text
    title: Text
    layout: Text
    source: Provenance
    models: Annotated[tuple[PackagedModel, ...], pydantic.Field(max_length=MOST_MODELS)]
    verification: Verification
    reference_pack: PackagePath | None
    versions: Mapping[Text, Text]
    files: Annotated[tuple[PackagedFile, ...], pydantic.Field(max_length=MOST_FILES)]

    def dump(self) -> bytes:
        """The bytes of `manifest.json`."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest, and check that it is consistent. Raises ValueError in one line."""
    manifest = parse_json(Manifest, data)
    paths = [file.path for file in manifest.files]
    if len(set(paths)) < len(paths):
        raise ValueError("files: a path occurs more than once")
    if twins := collision(paths):
        raise ValueError(f"files: {' and '.join(twins)} are one file, or a file and a folder, on some systems")
    with_role = {file.path for file in manifest.files if file.role is Role.MODEL}
    of_models = [path for model in manifest.models for path in model.files]
    if sorted(of_models) != sorted(with_role) or any(model.path not in model.files for model in manifest.models):
        raise ValueError("models: their files are not the files of the role 'model'")
    packs = [file.path for file in manifest.files if file.role is Role.REFERENCE]
    if packs != ([manifest.reference_pack] if manifest.reference_pack else []):
        raise ValueError("reference_pack: is not the one file of the role 'reference pack'")
    return manifest


def dump_sums(hashes: Mapping[str, str]) -> bytes:
    """The bytes of `SHA256SUMS` for `sha256sum --check`, sorted by path."""
    return "".join(f"{hashes[path]}  {path}\n" for path in sorted(hashes)).encode()


def parse_sums(data: bytes) -> dict[str, str]:
    """The hashes by path. Raises ValueError in one line."""
    if b"\r\n" in data:
        raise ValueError(
            "its lines end as on Windows (CRLF), which changes every name; copy the package unchanged "
            "(git: core.autocrlf=false)"
        )
    hashes: dict[str, str] = {}
    for number, line in enumerate(_lines(data), 1):
        match = _SUM.fullmatch(line)
        if match is None or match[2] in hashes or number > MOST_FILES:
            raise ValueError(
                f"line {number}: expected a hash, two spaces and a path, each path once, at most {MOST_FILES} lines"
            )
        if problem := fault(match[2]):
            raise ValueError(f"line {number}: {one_line(match[2])!r} is no name that a package has: {problem}")
        hashes[match[2]] = match[1]
    return hashes


def _lines(data: bytes) -> Iterable[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    if not text.endswith("\n"):
        raise ValueError("the last line does not end")
    return text[:-1].split("\n")
