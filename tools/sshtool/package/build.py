"""Writes verified artifacts into a package: a folder or archive that others can check and deploy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from sshconvert.arrays import Images
from sshconvert.checkpoint import DEMO, CheckpointFiles
from sshconvert.contract import Contract, licence_of
from sshconvert.digest import blocks_sha256, bytes_sha256
from sshconvert.errors import PackageError, ReferencePackError, UsageError, VerificationError
from sshconvert.files import output_errors, replace_folder, staging_folder
from sshconvert.formats.registry import artifact_files, format_of
from sshconvert.libraries import JINJA, PILLOW, YAML, require
from sshconvert.models.registry import dump_model, model_names
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file, is_folder, is_there, open_regular
from sshconvert.schema import one_line
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.faults import Size
from sshtool.candidates import find_candidates
from sshtool.checkpoint.archive import opened
from sshtool.document import dump_result
from sshtool.environment import environment
from sshtool.package.bundle import ARCHIVES, pack, source_date
from sshtool.package.card import FILE as CARD, CardLinks, CardModel, evaluation_rows, render_card
from sshtool.package.declarations import LICENCES, PAGE
from sshtool.package.evidence import (
    Bench,
    BenchedArtifact,
    EvaluatedArtifact,
    Evidence,
    read_bench,
    read_evaluation,
    read_verification,
    verification_of,
)
from sshtool.package.layouts import LAYOUTS, Layout
from sshtool.package.licences import licence_texts, mit_text
from sshtool.package.manifest import (
    DESCRIPTION,
    MANIFEST,
    SUMS,
    Manifest,
    PackagedFile,
    Provenance,
    Role,
    Verification,
    dump_sums,
)
from sshtool.package.openssf import SigningKey
from sshtool.package.packaged_model import packaged_model, read_contract
from sshtool.package.sbom import FILE as BILL, dump_bill
from sshtool.package.web.page import FOLDER as WEB_FOLDER
from sshtool.parity.pack import PackReference, demo_pack_path, has_demo_pack, read_pack
from sshtool.parity.recompute import prove
from sshtool.parity.samples import draw_sample
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import ArtifactReport, VerifyReport
from sshtool.progress import Progress, silent
from sshtool.report.html import render_html
from sshtool.workspace import VERIFICATION, Workspace

REFERENCE: Final = "reference.npz"


@dataclass(frozen=True)
class PackageOptions:
    """The contents and the form of a package. `archive` is "", "zip" or "tar.gz", `key` the key that signs it."""

    artifacts: tuple[Path, ...] = ()
    verification: Path | None = None
    evaluation: Path | None = None
    bench: Path | None = None
    reference: Path | None = None
    layout: str = "flat"
    archive: str = ""
    allow_unverified: bool = False
    key: SigningKey | None = None
    runtime_files: Path | None = None


@dataclass(frozen=True)
class PackageResult:
    """The paths and files of a package. `sha256` is that of `SHA256SUMS`, which covers every other file.

    Without a reference pack, others can check the files' hashes, but not what the models compute. `signed_by` names the
    key, "" without one. With `dry_run`, `files` and `sha256` are empty.
    """

    model: str
    folder: Path
    archive: Path | None
    verified: bool
    with_reference: bool
    sha256: str
    files: tuple[PackagedFile, ...]
    signed_by: str


def package(
    workspace: Workspace, options: PackageOptions, *, dry_run: bool = False, progress: Progress = silent
) -> PackageResult:
    """Write the package to `releases/<model>-<layout>` below the output folder, and its archive beside it.

    Raises VerificationError for an artifact that did not pass `verify` with exactly these bytes, PackageError,
    UsageError, ReferencePackError, ArtifactError and OutputError. The complete new package replaces the old one.
    """
    model, layout = workspace.model, _layout(options)
    if not dry_run:
        require(PILLOW, JINJA, YAML)
    source_date()  # raises before anything is written
    target = workspace.package(layout.key)
    archive = target.with_name(f"{target.name}.{options.archive}") if options.archive else None
    progress("reading the artifacts and their evidence")
    plan = _Plan.make(workspace, layout, options)
    verified = plan.verification.status == "passed"
    signer = options.key.signer if options.key else ""
    result = PackageResult(model.name, target, archive, verified, plan.pack is not None, "", (), signer)
    if dry_run:
        return result
    _check_target(target)
    with staging_folder(target.parent) as staging:
        folder = staging / target.name
        folder.mkdir()
        progress("writing the package")
        manifest, sums = _write(folder, plan)
        if options.key:
            progress("signing the package")
            options.key.sign(folder)
        replace_folder(folder, target, keep_others=False)
    if archive:
        progress("writing the archive")
        pack(target, archive, options.archive)
    return replace(result, sha256=sums, files=manifest.files)


def _layout(options: PackageOptions) -> Layout:
    if options.layout not in LAYOUTS:
        raise UsageError(f"--layout: {options.layout} is not one of {', '.join(LAYOUTS)}")
    if options.archive and options.archive not in ARCHIVES:
        raise UsageError(f"--archive: {options.archive} is not one of {', '.join(ARCHIVES)}")
    return LAYOUTS[options.layout]


def _check_target(target: Path) -> None:
    """Raises PackageError unless the folder to replace is a package, empty or missing."""
    if is_there(target) and not is_file(target / MANIFEST) and any(target.iterdir() if is_folder(target) else [target]):
        raise PackageError(f"{target}: exists and is no package; move it away or give another --output-dir")


@dataclass(frozen=True)
class _Measurements:
    """Measurements of artifacts, for the card."""

    evaluated: tuple[EvaluatedArtifact, ...]
    bench: Bench | None

    @classmethod
    def read(cls, model_name: str, options: PackageOptions) -> _Measurements:
        evaluated = read_evaluation(options.evaluation, model_name) if options.evaluation else ()
        return cls(evaluated, read_bench(options.bench, model_name) if options.bench else None)

    def about(self, hashes: Mapping[str, str]) -> tuple[EvaluatedArtifact | None, tuple[BenchedArtifact, ...]]:
        """The measurements of the files with exactly these hashes."""
        digests = sorted(hashes.values())
        evaluated = next((item for item in self.evaluated if sorted(item.files.values()) == digests), None)
        benched = self.bench.candidates if self.bench else ()
        return evaluated, tuple(item for item in benched if sorted(item.files.values()) == digests)


@dataclass(frozen=True)
class _Artifact:
    """An artifact to package: its files and their hashes by path in the package, and its part of the card."""

    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    described: CardModel


@dataclass(frozen=True)
class _Plan:
    """The contents of a package, read and checked before `package` writes anything."""

    model: ModelSpec
    layout: Layout
    source: Provenance
    verification: Verification
    report: VerifyReport | None
    items: tuple[_Artifact, ...]
    pack: Path | None
    bench: Bench | None
    layout_files: Mapping[str, bytes]
    vendored_files: Mapping[str, Path]
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, workspace: Workspace, layout: Layout, options: PackageOptions) -> _Plan:
        model = workspace.model
        paths = [item.path for item in find_candidates(workspace, options.artifacts)]
        evidence = _evidence(workspace, options)
        measurements = _Measurements.read(model.name, options)
        contracts = [read_contract(path) for path in paths]
        items = tuple(
            _artifact(model, layout, path, contract, evidence, measurements)
            for path, contract in zip(paths, contracts, strict=True)
        )
        layout_files = _layout_files(model, layout, items)
        vendored_files = _vendored_files(layout, options.runtime_files)
        _check_verified(items, paths, evidence, allow=options.allow_unverified)
        weights = {Contract(item.described.model.options).weights for item in items}
        targets = [path for item in items for path in item.files]
        if len(weights) > 1 or len(set(targets)) < len(targets):
            raise PackageError(
                f"{', '.join(map(str, paths))}: come from several checkpoints, or have the same path in a package; "
                "choose with --artifact"
            )
        report = _report(evidence, items)
        sizes = {contract.declaration(path).sample_size(model) for path, contract in zip(paths, contracts, strict=True)}
        pack, reference = _reference(workspace, options, weights.pop(), sizes)
        return cls(
            model,
            layout,
            _source(workspace, items, reference),
            verification_of(report, [item.described.model.verified for item in items]),
            report,
            items,
            pack,
            measurements.bench,
            layout_files,
            vendored_files,
            report.environment if report else environment(),
        )


def _evidence(workspace: Workspace, options: PackageOptions) -> Evidence | None:
    path = options.verification or workspace.verification
    if options.verification is None and not is_file(path):
        return None
    return read_verification(path, workspace.model)


def _artifact(
    model: ModelSpec,
    layout: Layout,
    path: Path,
    contract: Contract,
    evidence: Evidence | None,
    measurements: _Measurements,
) -> _Artifact:
    sources = artifact_files(path)
    # Layouts rename files. A file that names its weights' file would not find it.
    if len(sources) > 1 + len(format_of(path).companion_suffixes):
        raise PackageError(f"{path}: its weights are in {sources[1].name}; package an IR, or FP16 if that is one file")
    packaged = packaged_model(path, contract, model.name, layout, verified=False)
    files = dict(zip(packaged.files, sources, strict=True))
    hashes = {target: blocks_sha256(_blocks(source)) for target, source in files.items()}
    report = evidence.about(hashes) if evidence else None
    packaged = packaged.model_copy(update={"verified": report is not None})
    size = sum(source.stat().st_size for source in sources)
    return _Artifact(files, hashes, CardModel(packaged, size, report, *measurements.about(hashes)))


def _layout_files(model: ModelSpec, layout: Layout, items: Sequence[_Artifact]) -> Mapping[str, bytes]:
    """The layout's own files. Raises UsageError for artifacts that it cannot hold."""
    files = layout.configuration([item.described.model for item in items], model)
    for item in items:
        if layout.largest and item.described.bytes > layout.largest:
            raise UsageError(
                f"--layout {layout.key}: {item.described.model.label} has {item.described.megabytes} MB, at most "
                f"{layout.largest / 1e6:g} MB are taken; choose a smaller one with --artifact, such as FP16 or INT8"
            )
    return files


def _vendored_files(layout: Layout, folder: Path | None) -> Mapping[str, Path]:
    """The files that come from elsewhere, by path in the package. Raises UsageError."""
    if layout.vendored:
        return layout.vendored.sources(folder)
    if folder:
        raise UsageError(f"--runtime-files: the layout {layout.key} takes none; omit the option")
    return {}


def _check_verified(
    items: Sequence[_Artifact], paths: Sequence[Path], evidence: Evidence | None, *, allow: bool
) -> None:
    unverified = [str(path) for item, path in zip(items, paths, strict=True) if not item.described.model.verified]
    if unverified and not allow:
        problem = "has not passed `sshtool verify` with exactly these bytes" if evidence else "has not been verified"
        raise VerificationError(
            f"{', '.join(unverified)}: {problem}; run `sshtool verify`, or mark the package with --allow-unverified"
        )


def _report(evidence: Evidence | None, items: Sequence[_Artifact]) -> VerifyReport | None:
    """The verification report of the packaged artifacts only, with their paths in the package."""
    reports: list[ArtifactReport] = []
    for item in items:
        report = item.described.report
        if report:
            names = {Path(path).name: digest for path, digest in item.hashes.items()}
            reports.append(replace(report, path=Path(item.described.model.path), files=names))
    if evidence is None or not reports:
        return None
    labels = {report.label for report in reports}
    failures = tuple(failure for failure in evidence.report.failures if failure.artifact in labels)
    return replace(evidence.report, artifacts=tuple(reports), failures=failures, passed=not failures)


def _reference(
    workspace: Workspace, options: PackageOptions, weights: str, sizes: Iterable[Size]
) -> tuple[Path | None, PackReference | None]:
    """The reference pack of the package: the given one, the one beside the artifacts, or the demo's.

    The latter two must fit; without a pack the package says so. `prove` compares the demo's answers with the demo.
    Raises ReferencePackError, and PackageError if the given pack does not fit.
    """
    model, beside = workspace.model, workspace.reference_pack
    if options.reference:
        pack = read_pack(options.reference, model)
        if problem := _misfit(pack, weights, sizes):
            raise PackageError(f"{options.reference}: {problem}; make one of these with `sshtool reference`")
        prove(pack, None, model)
        return options.reference, pack
    for path in (beside, demo_pack_path()) if weights == DEMO and has_demo_pack(model) else (beside,):
        if is_file(path):
            pack = read_pack(path, model)
            if not _misfit(pack, weights, sizes):
                prove(pack, None, model)
                return path, pack
    return None, None


def _misfit(pack: PackReference, weights: str, sizes: Iterable[Size]) -> str:
    """Why a pack does not fit artifacts of these weights and sizes; "" if it fits."""
    if pack.weights != weights:
        return f"has answers of the checkpoint {pack.weights}, the artifacts are of {one_line(weights) or 'unknown'}"
    try:
        for size in sizes:
            pack.answers(*size)
    except ReferencePackError as error:
        return str(error)
    return ""


def _source(workspace: Workspace, items: Sequence[_Artifact], reference: PackReference | None) -> Provenance:
    weights = Contract(items[0].described.model.options).weights
    scheme, _, digest = weights.partition(":")
    hashes = reference.contents.checkpoint if reference else _hashes(workspace, weights)
    return Provenance(weights=weights, archive_sha256=digest if scheme == "sha256" else None, checkpoint=dict(hashes))


def _hashes(workspace: Workspace, weights: str) -> Mapping[str, str]:
    """The hashes of the checkpoint in the output folder, if it has these weights."""
    source = workspace.source()
    is_complete = source.params is not None if isinstance(source, CheckpointFiles) else is_folder(source)
    if not is_complete:
        return {}
    with opened(source, workspace.model, allow_nonfinite=True) as checkpoint:
        return checkpoint.sha256 if checkpoint.weights == weights else {}


class _Writer:
    """Writes the files of a package, and lists them. Raises OutputError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[PackagedFile] = []

    def put(self, path: str, role: Role, data: bytes) -> None:
        self.write(path, data)
        self.files.append(PackagedFile(path=path, role=role, bytes=len(data), sha256=bytes_sha256(data)))

    def copy(self, path: str, role: Role, source: Path, sha256: str = "") -> None:
        """Copy a file. Raises PackageError if it is unreadable, or has another hash than `sha256`."""
        with self._target(path) as target:
            digest = blocks_sha256(_written(_blocks(source), target))
            size = target.tell()
        if sha256 not in ("", digest):
            raise PackageError(f"{source}: changed while it was packaged; package again when no program writes it")
        self.files.append(PackagedFile(path=path, role=role, bytes=size, sha256=digest))

    def write(self, path: str, data: bytes) -> None:
        """Write a file without listing it."""
        with self._target(path) as target:
            target.write(data)

    @contextmanager
    def _target(self, path: str) -> Iterator[BinaryIO]:
        """Open the target. Every OSError in the block is an error of the target; `_blocks` has its own."""
        target = self.folder / path
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                yield file


def _write(folder: Path, plan: _Plan) -> tuple[Manifest, str]:
    """Write all files into an empty folder. Returns the manifest and the hash of `SHA256SUMS`."""
    writer = _Writer(folder)
    for item in plan.items:
        for path, source in item.files.items():
            writer.copy(path, Role.MODEL, source, item.hashes[path])
    models = [item.described.model for item in plan.items]
    for path, data in plan.layout_files.items():
        writer.put(path, plan.layout.role, data)
    vendored = plan.layout.vendored
    for path, source in plan.vendored_files.items():
        writer.copy(path, plan.layout.role, source, vendored.hashes[path] if vendored else "")
    if vendored:
        writer.put(f"{LICENCES}/{vendored.name}.txt", Role.LICENCE, mit_text(vendored.copyright))
    if plan.pack:
        writer.copy(REFERENCE, Role.REFERENCE, plan.pack)
    if plan.report:
        document = dump_result("verify", VerifyResult(plan.report), passed=plan.report.passed)
        writer.put(VERIFICATION, Role.REPORT, document.encode())
        writer.put(PAGE, Role.REPORT, render_html(plan.report, _images(plan)).encode())
    licence = licence_of(plan.model, plan.source.weights)
    ships = plan.model.name in model_names()
    if ships:
        for name, text in licence_texts(plan.model).items():
            writer.put(f"{LICENCES}/{name}", Role.LICENCE, text)
    else:
        writer.put(DESCRIPTION, Role.DESCRIPTION, dump_model(plan.model))
    described = [item.described for item in plan.items]
    links = CardLinks(
        PAGE if plan.report else "",
        REFERENCE if plan.pack else "",
        "" if ships else DESCRIPTION,
        WEB_FOLDER if plan.layout.role is Role.PAGE else "",
        plan.layout.usage,
    )
    card = render_card(plan.model, plan.source, plan.verification, described, plan.bench, links)
    writer.put(CARD, Role.CARD, card)
    writer.files.sort(key=lambda file: file.path)
    measure = "average precision" if isinstance(plan.model.task, DetectionTask) else "accuracy"
    metrics = [
        {
            "type": f"{measure}, {row['protocol']} {row['setting']}",
            "value": row["percent"],
            "slice": row["path"],
        }
        for row in evaluation_rows(described)
    ]
    bill = dump_bill(plan.model, plan.source, models, writer.files, metrics, plan.versions, licence, vendored)
    writer.put(BILL, Role.BILL, bill)
    manifest = Manifest(
        model=plan.model.name,
        title=plan.model.title,
        layout=plan.layout.key,
        source=plan.source,
        models=tuple(models),
        verification=plan.verification,
        reference_pack=REFERENCE if plan.pack else None,
        versions=dict(sorted(plan.versions.items())),
        files=tuple(sorted(writer.files, key=lambda file: file.path)),
    )
    data = manifest.dump()
    writer.write(MANIFEST, data)
    hashes = {file.path: file.sha256 for file in manifest.files} | {MANIFEST: bytes_sha256(data)}
    sums = dump_sums(hashes)
    writer.write(SUMS, sums)
    return manifest, bytes_sha256(sums)


def _images(plan: _Plan) -> dict[str, Images]:
    """The drawn images of the report, which shows the detections on them. The user's own images are not available."""
    images = {}
    for sample in plan.report.samples if plan.report else ():
        try:
            drawn = draw_sample(sample.name, plan.model, *sample.shape[1:3])
        except (KeyError, ValueError):
            continue
        if drawn.is_pictured and drawn.images.shape == sample.shape:
            images[sample.name] = drawn.images
    return images


def _written(blocks: Iterable[bytes], target: BinaryIO) -> Iterator[bytes]:
    """Write each block to a file, and pass it on."""
    for block in blocks:
        target.write(block)
        yield block


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file. Raises PackageError if reading fails."""
    try:
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); convert again") from None
