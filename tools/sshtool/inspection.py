"""Facts about any file of sshtool: a checkpoint, a network, a converted model or a package. It runs no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sshconvert.contract import Contract, Tensor
from sshconvert.errors import PackageError, UsageError
from sshconvert.formats.registry import artifact_files, format_of, known_format, main_file
from sshconvert.options import Precision
from sshconvert.reading import is_file, is_folder, is_there
from sshconvert.recognition import mistaken
from sshtool.checkpoint.archive import is_archive
from sshtool.checkpoint.info import InfoResult
from sshtool.package.manifest import LARGEST_MANIFEST, MANIFEST, Manifest, PackagedModel, parse_manifest
from sshtool.package.packaged_model import read_contract
from sshtool.package.unpacking import read_file

SYMBOL_SUFFIX: Final = ".json"


@dataclass(frozen=True)
class ArtifactInfo:
    """A converted model, as its file declares it. A dimension of -1 is free. Sizes are in bytes.

    `operators` and `mparams` (millions of weights) are empty for formats that do not state them. Texts are "" if the
    metadata lack them. `metadata` is the contract, `model_info` what OpenVINO's Model API reads.
    """

    kind: Literal["artifact"]
    path: Path
    format: str
    precision: str
    model: str
    weights: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    mparams: float | None
    bytes: int
    files: tuple[Path, ...]
    metadata: Mapping[str, str]
    model_info: Mapping[str, str]


@dataclass(frozen=True)
class PackagedInfo:
    """A model of a package, as the manifest describes it. `path` and `files` are paths in the package."""

    label: str
    path: str
    format: str
    precision: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bytes: int
    files: tuple[str, ...]
    metadata: Mapping[str, str]
    verified: bool


@dataclass(frozen=True)
class PackageInfo:
    """A package, as its manifest describes it. Only `sshtool check` compares it with the files."""

    kind: Literal["package"]
    path: Path
    model: str
    title: str
    layout: str
    weights: str
    archive_sha256: str | None
    verification: str
    reference: str  # what the models were verified against
    notes: tuple[str, ...]
    models: tuple[PackagedInfo, ...]
    reference_pack: str | None
    versions: Mapping[str, str]
    bytes: int
    files: int


AnyInfo: TypeAlias = InfoResult | ArtifactInfo | PackageInfo


def inspect(path: Path) -> ArtifactInfo | PackageInfo | None:
    """Describe a converted model or a package; None for a path that may be a checkpoint or a symbol.

    Raises UsageError for any other file, ArtifactError and PackageError.
    """
    if is_folder(path):
        return _package(path) if is_there(path / MANIFEST) else None
    if known_format(path):
        return _artifact(path)
    main = main_file(path)
    if main and is_file(main):
        raise UsageError(f"{path}: belongs to {main.name}; give that file")
    if is_archive(path) or path.name.endswith((".gz", ".tgz")):
        return _package(path)
    if path.suffix in (".params", SYMBOL_SUFFIX):
        return None
    if not is_there(path):
        raise UsageError(f"{path}: does not exist; correct the path")
    description = mistaken(path, "")
    raise UsageError(
        f"{path}: is {description or 'of no known kind'}; give a .params file, a symbol, a converted model or a package"
    )


def _artifact(path: Path) -> ArtifactInfo:
    contract = read_contract(path)
    entry = format_of(path)
    structure = entry.read_structure(path)
    files = artifact_files(path)
    return ArtifactInfo(
        kind="artifact",
        path=path,
        format=entry.key,
        precision=_precision(path, contract),
        model=contract.metadata.get("model", ""),
        weights=contract.weights,
        inputs=contract.inputs,
        outputs=contract.outputs,
        operators=structure.operators,
        mparams=structure.mparams,
        bytes=sum(file.stat().st_size for file in files),
        files=files,
        metadata=contract.metadata,
        model_info=contract.model_info,
    )


def _precision(path: Path, contract: Contract) -> str:
    """The precision that the metadata state, INT8 for quantized weights, else ""."""
    return contract.precision or (Precision.INT8.value if format_of(path).is_quantized(path) else "")


def _package(path: Path) -> PackageInfo | None:
    """Describe a package; None for an archive without a manifest, such as that of a checkpoint."""
    try:
        data = read_file(path, MANIFEST, LARGEST_MANIFEST)
    except PackageError:
        if is_folder(path) or not is_archive(path):
            raise
        return None  # the reader of checkpoints has other limits, and its own message
    if data is None:
        return None
    try:
        manifest = parse_manifest(data)
    except ValueError as error:
        raise PackageError(f"{path}: {MANIFEST}: {error}; get the package again from a source you trust") from None
    sizes = {file.path: file.bytes for file in manifest.files}
    return PackageInfo(
        kind="package",
        path=path,
        model=manifest.model,
        title=manifest.title,
        layout=manifest.layout,
        weights=manifest.source.weights,
        archive_sha256=manifest.source.archive_sha256,
        verification=manifest.verification.status,
        reference=manifest.verification.reference,
        notes=manifest.verification.notes,
        models=_packaged(manifest, sizes),
        reference_pack=manifest.reference_pack,
        versions=manifest.versions,
        bytes=sum(sizes.values()),
        files=len(sizes),
    )


def _packaged(manifest: Manifest, sizes: Mapping[str, int]) -> tuple[PackagedInfo, ...]:
    return tuple(
        PackagedInfo(
            label=model.label,
            path=model.path,
            format=model.format,
            precision=model.precision,
            inputs=_tensors(model)[0],
            outputs=_tensors(model)[1],
            bytes=sum(sizes[file] for file in model.files),
            files=model.files,
            metadata=model.options,
            verified=model.verified,
        )
        for model in manifest.models
    )


def _tensors(model: PackagedModel) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and the outputs of a packaged model."""
    inputs, outputs = (
        tuple(Tensor(item.name, item.dtype, item.shape) for item in items)
        for items in ((model.input, *model.other_inputs), model.outputs)
    )
    return inputs, outputs
