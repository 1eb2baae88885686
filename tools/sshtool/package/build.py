"""Packages verified artifacts into a folder or one file that anyone can check and deploy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files as resources
from pathlib import Path
from typing import BinaryIO, Final

from sshconvert.arrays import Images
from sshconvert.checkpoint import DEMO
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
from sshtool.candidates import find_candidates
from sshtool.checkpoint.archive import opened
from sshtool.document import dump_result
from sshtool.environment import environment
from sshtool.package.bundle import KINDS, pack, source_date
from sshtool.package.card import FILE as CARD, Beside, Described, evaluation_rows, render_card
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
from sshtool.package.manifest import (
    DESCRIPTION,
    MANIFEST,
    SUMS,
    Manifest,
    PackagedFile,
    Role,
    Source,
    Verification,
    dump_sums,
)
from sshtool.package.packaged_model import packaged_model, read_contract
from sshtool.package.sbom import FILE as BILL, dump_bill
from sshtool.parity.pack import PackReference, demo_pack_path, read_pack
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
    """What goes in, and in which form. `archive` is "", "zip" or "tar.gz"."""

    artifacts: tuple[Path, ...] = ()
    verification: Path | None = None
    evaluation: Path | None = None
    bench: Path | None = None
    reference: Path | None = None
    layout: str = "flat"
    archive: str = ""
    allow_unverified: bool = False


@dataclass(frozen=True)
class PackageResult:
    """Where the package is, and what is in it. `sha256` is that of `SHA256SUMS`: it stands for all of it.

    Without a reference pack, others can check that the files are these, but not what they compute.

    `files` is empty if nothing was written.
    """

    model: str
    folder: Path
    archive: Path | None
    verified: bool
    with_reference: bool
    sha256: str
    files: tuple[PackagedFile, ...]


def package(
    workspace: Workspace,
    options: PackageOptions,
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> PackageResult:
    """Write `releases/<model>-<layout>` below the output folder, and one file of it if that is asked for.

    Raises VerificationError for an artifact that did not pass `verify` with exactly these bytes, PackageError,
    UsageError, ReferencePackError, ArtifactError and OutputError. The old package stays until the new one is whole.
    """
    model, layout = workspace.model, _layout(options)
    if not dry_run:
        require(PILLOW, JINJA, YAML)
    source_date()  # before anything is written, in case it is none
    target = workspace.package(layout.key)
    bundle = target.with_name(f"{target.name}.{options.archive}") if options.archive else None
    progress("reading the artifacts and what is known of them")
    plan = _Plan.make(workspace, layout, options)
    verified = plan.verification.status == "passed"
    result = PackageResult(model.name, target, bundle, verified, plan.pack is not None, "", ())
    if dry_run:
        return result
    _check_target(target)
    with staging_folder(target.parent) as staging:
        folder = staging / target.name
        folder.mkdir()
        progress("writing the package")
        manifest, sums = _write(folder, plan)
        replace_folder(folder, target, keep_others=False)
    if bundle:
        progress("packing it")
        pack(target, bundle, options.archive)
    return replace(result, sha256=sums, files=manifest.files)


def _layout(options: PackageOptions) -> Layout:
    if options.layout not in LAYOUTS:
        raise UsageError(f"--layout: {options.layout} is not one of {', '.join(LAYOUTS)}")
    if options.archive and options.archive not in KINDS:
        raise UsageError(f"--archive: {options.archive} is not one of {', '.join(KINDS)}")
    return LAYOUTS[options.layout]


def _check_target(target: Path) -> None:
    """A folder is replaced as a whole: then it has to be a package. Raises PackageError."""
    if is_there(target) and not is_file(target / MANIFEST) and any(target.iterdir() if is_folder(target) else [target]):
        raise PackageError(f"{target}: is there and is no package; move it away or name another --output-dir")


@dataclass(frozen=True)
class Figures:
    """Measurements of artifacts, for the card."""

    evaluated: tuple[EvaluatedArtifact, ...]
    bench: Bench | None

    @classmethod
    def read(cls, model_name: str, options: PackageOptions) -> Figures:
        evaluated = read_evaluation(options.evaluation, model_name) if options.evaluation else ()
        return cls(evaluated, read_bench(options.bench, model_name) if options.bench else None)

    def about(self, hashes: Mapping[str, str]) -> tuple[EvaluatedArtifact | None, tuple[BenchedArtifact, ...]]:
        """The measurements of exactly these files, by their hashes."""
        wanted = sorted(hashes.values())
        evaluated = next((item for item in self.evaluated if sorted(item.files.values()) == wanted), None)
        benched = self.bench.candidates if self.bench else ()
        return evaluated, tuple(item for item in benched if sorted(item.files.values()) == wanted)


@dataclass(frozen=True)
class _Item:
    """An artifact on its way into the package: its files by their place there, and what is known of their bytes."""

    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    described: Described


@dataclass(frozen=True)
class _Plan:
    """The contents of a package, read and checked, before anything is written."""

    model: ModelSpec
    layout: Layout
    source: Source
    verification: Verification
    report: VerifyReport | None
    items: tuple[_Item, ...]
    pack: Path | None
    bench: Bench | None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, workspace: Workspace, layout: Layout, options: PackageOptions) -> _Plan:
        model = workspace.model
        paths = [item.path for item in find_candidates(workspace, options.artifacts)]
        evidence = _evidence(workspace, options)
        figures = Figures.read(model.name, options)
        contracts = [read_contract(path) for path in paths]
        items = tuple(
            _item(model, layout, path, contract, evidence, figures)
            for path, contract in zip(paths, contracts, strict=True)
        )
        _check_verified(items, paths, evidence, allow=options.allow_unverified)
        weights = {Contract(item.described.model.options).weights for item in items}
        if len(weights) > 1 or len({path for item in items for path in item.files}) < sum(len(i.files) for i in items):
            raise PackageError(
                f"{', '.join(map(str, paths))}: come from several checkpoints, or take one place in a package; "
                "choose with --artifact"
            )
        report = _report(evidence, items)
        sizes = {contract.declaration(path).image_size(model) for path, contract in zip(paths, contracts, strict=True)}
        pack, reference = _reference(workspace, options, weights.pop(), sizes)
        return cls(
            model,
            layout,
            _source(workspace, items, reference),
            verification_of(report, [item.described.model.verified for item in items]),
            report,
            items,
            pack,
            figures.bench,
            report.environment if report else environment(),
        )


def _evidence(workspace: Workspace, options: PackageOptions) -> Evidence | None:
    path = options.verification or workspace.verification
    if options.verification is None and not is_file(path):
        return None
    return read_verification(path, workspace.model.name)


def _item(
    model: ModelSpec,
    layout: Layout,
    path: Path,
    contract: Contract,
    evidence: Evidence | None,
    figures: Figures,
) -> _Item:
    sources = artifact_files(path)
    if len(sources) > 1 + len(
        format_of(path).companion_suffixes
    ):  # layouts rename files, and this one names its weights'
        raise PackageError(f"{path}: its weights are in {sources[1].name}; package an IR, or FP16 if that is one file")
    packaged = packaged_model(path, contract, model.name, layout, verified=False)
    placed = dict(zip(packaged.files, sources, strict=True))
    hashes = {place: blocks_sha256(_blocks(source)) for place, source in placed.items()}
    report = evidence.about(hashes) if evidence else None
    packaged = packaged.model_copy(update={"verified": report is not None})
    size = sum(source.stat().st_size for source in sources)
    return _Item(placed, hashes, Described(packaged, size, report, *figures.about(hashes)))


def _check_verified(items: Sequence[_Item], paths: Sequence[Path], evidence: Evidence | None, *, allow: bool) -> None:
    unverified = [str(path) for item, path in zip(items, paths, strict=True) if not item.described.model.verified]
    if unverified and not allow:
        what = "has not passed `sshtool verify` with exactly these bytes" if evidence else "has not been verified"
        raise VerificationError(
            f"{', '.join(unverified)}: {what}; run `sshtool verify`, or mark the package with --allow-unverified"
        )


def _report(evidence: Evidence | None, items: Sequence[_Item]) -> VerifyReport | None:
    """The verification as the package tells it: of its artifacts only, at their places in it."""
    found: list[ArtifactReport] = []
    for item in items:
        report = item.described.report
        if report:
            named = {Path(place).name: item.hashes[place] for place in item.files}
            found.append(replace(report, path=Path(item.described.model.path), files=named))
    if evidence is None or not found:
        return None
    labels = {report.label for report in found}
    failures = tuple(failure for failure in evidence.report.failures if failure.artifact in labels)
    return replace(evidence.report, artifacts=tuple(found), failures=failures, passed=not failures)


def _reference(
    workspace: Workspace, options: PackageOptions, weights: str, sizes: Iterable[tuple[int, int]]
) -> tuple[Path | None, PackReference | None]:
    """The original's answers to put into the package: those named, those beside the artifacts, or the demo's.

    Of the latter two, only answers that fit; none at all is no error, and the package says so. Answers of the demo are
    compared with the demo. Raises ReferencePackError.
    """
    model, beside = workspace.model, workspace.reference_pack
    if options.reference:
        pack = read_pack(options.reference, model)
        if problem := _misfit(pack, weights, sizes):
            raise PackageError(f"{options.reference}: {problem}; make one of these with `sshtool reference`")
        prove(pack, None, model)
        return options.reference, pack
    for path in (beside, demo_pack_path()) if weights == DEMO else (beside,):
        if is_file(path):
            pack = read_pack(path, model)
            if not _misfit(pack, weights, sizes):
                prove(pack, None, model)
                return path, pack
    return None, None


def _misfit(pack: PackReference, weights: str, sizes: Iterable[tuple[int, int]]) -> str:
    """Why a pack is of no use for artifacts of these weights and sizes; nothing if it is."""
    if pack.weights != weights:
        return f"has answers of the checkpoint {pack.weights}, the artifacts are of {one_line(weights) or 'unknown'}"
    try:
        for size in sizes:
            pack.answers(*size)
    except ReferencePackError as error:
        return str(error)
    return ""


def _source(workspace: Workspace, items: Sequence[_Item], reference: PackReference | None) -> Source:
    weights = Contract(items[0].described.model.options).weights
    kind, _, digest = weights.partition(":")
    hashes = reference.contents.checkpoint if reference else _hashes(workspace, weights)
    return Source(weights=weights, archive_sha256=digest if kind == "sha256" else None, checkpoint=dict(hashes))


def _hashes(workspace: Workspace, weights: str) -> Mapping[str, str]:
    """Of the checkpoint in the output folder, if the artifacts are of these weights."""
    folder = workspace.checkpoint
    if not is_folder(folder):
        return {}
    with opened(folder, workspace.model, allow_nonfinite=True) as checkpoint:
        return checkpoint.sha256 if checkpoint.weights == weights else {}


class _Writer:
    """Puts files into the folder of a package, and keeps the list of them. Raises OutputError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[PackagedFile] = []

    def put(self, path: str, role: Role, data: bytes) -> None:
        self.write(path, data)
        self.files.append(PackagedFile(path=path, role=role, bytes=len(data), sha256=bytes_sha256(data)))

    def copy(self, path: str, role: Role, source: Path, sha256: str = "") -> None:
        """Copy a file that has been looked at. Raises PackageError if it cannot be read, or has changed since."""
        with self._target(path) as target:
            digest = blocks_sha256(_written(_blocks(source), target))
            size = target.tell()
        if sha256 not in ("", digest):
            raise PackageError(f"{source}: changed while it was packaged; do it again when nobody writes it")
        self.files.append(PackagedFile(path=path, role=role, bytes=size, sha256=digest))

    def write(self, path: str, data: bytes) -> None:
        """As `put`, of a file that is not in the list."""
        with self._target(path) as target:
            target.write(data)

    @contextmanager
    def _target(self, path: str) -> Iterator[BinaryIO]:
        """What goes wrong here is the target's fault, whatever is read meanwhile: that has its own errors."""
        target = self.folder / path
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                yield file


def _write(folder: Path, plan: _Plan) -> tuple[Manifest, str]:
    """Write everything into an empty folder. Returns the manifest and the hash of `SHA256SUMS`."""
    writer = _Writer(folder)
    for item in plan.items:
        for place, source in item.files.items():
            writer.copy(place, Role.MODEL, source, item.hashes[place])
    models = [item.described.model for item in plan.items]
    for path, data in plan.layout.configuration(models).items():
        writer.put(path, Role.CONFIGURATION, data)
    if plan.pack:
        writer.copy(REFERENCE, Role.REFERENCE, plan.pack)
    if plan.report:
        document = dump_result("verify", VerifyResult(plan.report), passed=plan.report.passed)
        writer.put(VERIFICATION, Role.REPORT, document.encode())
        writer.put(PAGE, Role.REPORT, render_html(plan.report, _images(plan)).encode())
    licence = licence_of(plan.model, plan.source.weights)
    ships = plan.model.name in model_names()
    if not ships:
        writer.put(DESCRIPTION, Role.DESCRIPTION, dump_model(plan.model))
    for name, text in _licences() if ships else ():
        writer.put(f"{LICENCES}/{name}", Role.LICENCE, text)
    described = [item.described for item in plan.items]
    beside = Beside(PAGE if plan.report else "", REFERENCE if plan.pack else "", "" if ships else DESCRIPTION)
    card = render_card(plan.model, plan.source, plan.verification, described, plan.bench, beside)
    writer.put(CARD, Role.CARD, card)
    writer.files.sort(key=lambda file: file.path)
    metrics = [
        {
            "type": f"average precision, {row['protocol']} {row['setting']}",
            "value": row["percent"],
            "slice": row["path"],
        }
        for row in evaluation_rows(described)
    ]
    bill = dump_bill(plan.model, plan.source, models, writer.files, metrics, plan.versions, licence)
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
    """The drawn images of the report, to show the detections on; the user's own are not kept."""
    found = {}
    for sample in plan.report.samples if plan.report else ():
        try:
            drawn = draw_sample(sample.name, plan.model, *sample.shape[1:3])
        except (KeyError, ValueError):
            continue
        if drawn.images.shape == sample.shape:
            found[sample.name] = drawn.images
    return found


def _licences() -> Iterator[tuple[str, bytes]]:
    for path in sorted(resources("sshtool.package").joinpath("licences").iterdir(), key=lambda path: path.name):
        yield path.name, path.read_bytes()


def _written(blocks: Iterable[bytes], target: BinaryIO) -> Iterator[bytes]:
    """The blocks, each written to a file first."""
    for block in blocks:
        target.write(block)
        yield block


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file. Raises PackageError; what goes wrong where they are written to is not seen here."""
    try:
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); convert again") from None
