"""Checks a package against its manifest, and its models against the original's answers, offline.

The check collects all findings. If the files differ from the manifest, no runtime opens them. Unchecked statements are
claims. A package passes only if all of its models were compared with the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sshconvert.checkpoint import DEMO, Checkpoint
from sshconvert.errors import ModelError, PackageError, ReferencePackError, RuntimeUnavailableError, UsageError
from sshconvert.files import scratch_folder
from sshconvert.messages import printable, shown
from sshconvert.models.registry import load_model, model_names, read_model
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import read_small
from sshconvert.schema import one_line
from sshtool.candidates import Candidate
from sshtool.checkpoint.archive import opened as open_checkpoint
from sshtool.demo.network import demo_hashes
from sshtool.limits import check_elements, check_shape
from sshtool.package.contents import hash_file, list_contents
from sshtool.package.declarations import Claim, Declarations, Finding
from sshtool.package.manifest import (
    DESCRIPTION,
    LARGEST_MANIFEST,
    MANIFEST,
    SUMS,
    Manifest,
    PackagedModel,
    parse_manifest,
    parse_sums,
)
from sshtool.package.rebuild import check_rebuildable, rebuilt
from sshtool.package.signers import Signers, open_signers
from sshtool.package.signing import LARGEST_SIGNATURE, SignatureError, how_to_check, signatures
from sshtool.package.unpacking import opened as unpacked
from sshtool.parity.pack import PackReference, read_pack
from sshtool.parity.recompute import check_answers, prove
from sshtool.parity.verify import verify
from sshtool.progress import Progress, silent

# Opens the checkpoint to rebuild a package from.
OpenCheckpoint = Callable[[ModelSpec], AbstractContextManager[Checkpoint]]

Parsed = TypeVar("Parsed")

UNSIGNED: Final = "it is not signed: it only agrees with itself"


class Verdict(StrEnum):
    """The verdict of a check. "unproven": there is no finding, but not every model was compared with the original."""

    PASSED = "passed"
    FAILED = "failed"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class CheckResult:
    """The checks that ran, their findings, and the package's claims.

    `parity` holds the largest difference from the original's answers for each model that ran. `signed_by` has the
    trusted signers, "" without a signature or without signers.
    """

    path: Path
    model: str
    weights: str
    verification: str
    verdict: Verdict
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    claims: tuple[Claim, ...]
    signed_by: str
    parity: Mapping[str, float | None]

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED


class Checker:
    """Checks the package in `folder`."""

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress
        self.manifest: Manifest | None = None
        self.findings: list[Finding] = []
        self.claims: list[Claim] = []
        self.checks: list[str] = []
        self.largest: dict[str, float | None] = {}
        self.rebuilt: set[str] = set()
        self.signed_by = ""

    def run(
        self, *, signers: Sequence[Signers] = (), models: bool = True, original: OpenCheckpoint | None = None
    ) -> CheckResult:
        """Check everything. Each of `signers` must have signed the package."""
        self._signatures(self._files(), signers)
        if self.manifest and not self.findings and models:
            self._models(self.manifest, original)
        return CheckResult(
            self.folder,
            self.manifest.model if self.manifest else "",
            self.manifest.source.weights if self.manifest else "",
            self.manifest.verification.status if self.manifest else "",
            self._verdict(),
            tuple(self.checks),
            tuple(self.findings),
            tuple(self.claims),
            self.signed_by,
            self.largest,
        )

    def _verdict(self) -> Verdict:
        if self.findings or self.manifest is None:
            return Verdict.FAILED
        models = {item.label for item in self.manifest.models}
        return Verdict.PASSED if models and models <= self.largest.keys() | self.rebuilt else Verdict.UNPROVEN

    def fail(self, check: str, path: str, message: object) -> None:
        self.findings.append(Finding(check, printable(path), one_line(message)))

    def claim(self, path: str, place: str, reason: object) -> None:
        self.claims.append(Claim(path, place, one_line(reason)))

    def _files(self) -> dict[str, int]:
        """Check names, then sizes, then hashes: the manifest and SHA256SUMS must each list every file.

        Returns the sizes of unlisted signatures.
        """
        self.progress("listing the files")
        contents = list_contents(self.folder)
        for path, problem in contents.faults:
            self.fail("files", path, problem)
        manifest = self.manifest = self._parsed(MANIFEST, parse_manifest)
        sums = self._parsed(SUMS, parse_sums)
        self.checks += ["manifest"] if manifest else []
        listed = {file.path for file in manifest.files} if manifest else set()
        listed |= sums.keys() if sums else set()
        unlisted = {name: contents.sizes[name] for name in signatures(contents.sizes) if name not in listed}
        names = contents.sizes.keys() - unlisted.keys() - {SUMS}
        if not contents.complete:
            return unlisted
        if sums is not None:
            for path in sorted(names ^ sums.keys()):
                self.fail(
                    "checksums",
                    path,
                    "is not in SHA256SUMS" if path in names else "is in SHA256SUMS, but does not exist",
                )
        if manifest is not None:
            readable = self._sizes(manifest, {path: contents.sizes[path] for path in names})
            if not contents.too_large:
                self._hash(manifest, readable, sums or {})
                self.checks += ["checksums"] if sums else []
        return unlisted

    def _sizes(self, manifest: Manifest, sizes: Mapping[str, int]) -> dict[str, int]:
        """Compare names and sizes with the manifest. Returns the sizes that agree."""
        expected = {file.path: file.bytes for file in manifest.files}
        for path in sorted((sizes.keys() - {MANIFEST}) ^ expected.keys()):
            self.fail("manifest", path, "is not in the manifest" if path in sizes else "is missing")
        for path in sorted(sizes.keys() & expected.keys()):
            if sizes[path] != expected[path]:
                self.fail("manifest", path, f"has {sizes[path]} bytes, not the {expected[path]} of the manifest")
        return {path: size for path, size in sizes.items() if path == MANIFEST or expected.get(path) == size}

    def _hash(self, manifest: Manifest, sizes: Mapping[str, int], sums: Mapping[str, str]) -> None:
        expected = {file.path: file.sha256 for file in manifest.files}
        for done, (path, size) in enumerate(sorted(sizes.items())):
            self.progress("hashing the files", done, len(sizes))
            try:
                digest = hash_file(self.folder / path, size)
            except OSError as error:
                self.fail("files", path, f"cannot be read ({error.strerror})")
                continue
            if digest != sums.get(path, digest):
                self.fail("checksums", path, "has another SHA-256 than SHA256SUMS says")
            if digest != expected.get(path, digest):
                self.fail("manifest", path, f"has SHA-256 {digest}, not that of the manifest")

    def _parsed(self, name: str, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        try:
            return parse(read_small(self.folder / name, LARGEST_MANIFEST))
        except OSError as error:
            self.fail("manifest", name, f"cannot be read ({error.strerror})")
        except ValueError as error:
            self.fail("manifest", name, error)
        return None

    def _signatures(self, sizes: Mapping[str, int], signers: Sequence[Signers]) -> None:
        """Check the signatures of the given signers. All other signatures are claims.

        A signature of a package whose files are not those of its manifest is not checked: it is of other files.
        """
        required = {item.signature for item in signers}
        for name, size in sizes.items():
            if size > LARGEST_SIGNATURE:
                self.fail("signature", name, f"has more than {LARGEST_SIGNATURE} bytes, which no signature has")
            elif name not in required:
                self.claim(name, "", f"a signature; {how_to_check(name)}")
        for name in sorted(required - sizes.keys()):
            self.fail("signature", name, "is missing, and --signers requires it")
        if self.findings:
            return
        self.checks += ["signature"] if signers else []
        names = [name for item in signers if (name := self._signer(item))]
        self.signed_by = ", ".join(names)

    def _signer(self, signers: Signers) -> str:
        try:
            return signers.signer_of(self.folder)
        except SignatureError as error:
            self.fail("signature", signers.signature, error)
            return ""

    def _models(self, manifest: Manifest, original: OpenCheckpoint | None) -> None:
        """Compare the models' declarations with the manifest, and the models with the original."""
        model = self._model(manifest)
        if model is None:
            return
        declarations = Declarations(self.folder, manifest, model, self.progress)
        declarations.compare()
        self.checks.append("declarations")
        self.findings += declarations.findings
        self.claims += declarations.claims
        if self.findings:
            return
        if not manifest.models:
            self.claim(MANIFEST, "models", "the package has no models")
        reference = self._answers(manifest, model)
        if not self.findings:
            self._weights(manifest, model, reference, original)

    def _model(self, manifest: Manifest) -> ModelSpec | None:
        """The shipped model of the manifest's name, or the one that the package describes."""
        if manifest.model in model_names():
            return load_model(manifest.model)
        try:
            model = read_model(self.folder / DESCRIPTION, follow=False)
            _check_inputs(model, manifest)
        except (ModelError, UsageError) as error:
            self.fail("declarations", DESCRIPTION, str(error).removeprefix(f"{self.folder / DESCRIPTION}: "))
            return None
        if model.name != manifest.model:
            self.fail("declarations", DESCRIPTION, f"describes {model.name}, the manifest says {shown(manifest.model)}")
            return None
        return model

    def _answers(self, manifest: Manifest, model: ModelSpec) -> PackReference | None:
        if manifest.reference_pack is None:
            self.claim(MANIFEST, "models", "the package has no reference pack to compare them with the original")
            return None
        try:
            reference = read_pack(self.folder / manifest.reference_pack, model)
            _check_origin(reference, manifest)
            for number, item in enumerate(manifest.models):
                self._answer(number, item, reference, model)
        except (ReferencePackError, PackageError) as error:
            self.fail("answers", manifest.reference_pack, error)
            return None
        if self.largest:
            self.checks.append("answers")
        return reference

    def _answer(self, number: int, item: PackagedModel, reference: PackReference, model: ModelSpec) -> None:
        candidate = Candidate(self.folder / item.path, item.precision)
        try:
            report = verify(model, reference, [candidate], progress=self.progress)
        except RuntimeUnavailableError as error:
            self.claim(MANIFEST, f"models.{number}", f"{item.label} cannot be run here: {error}")
            return
        for failure in report.failures:
            self.fail("answers", item.path, failure.message)
        if report.passed:
            self.largest[item.label] = report.artifacts[0].largest

    def _weights(
        self, manifest: Manifest, model: ModelSpec, reference: PackReference | None, original: OpenCheckpoint | None
    ) -> None:
        """Compare the package with the demo checkpoint or the given one. The origin of any other package is a claim."""
        source = manifest.source
        try:
            if source.weights == DEMO:
                self._demo(manifest, model, reference)
            elif original is None:
                for place in ("source.weights", "source.archive_sha256", "source.checkpoint"):
                    self.claim(MANIFEST, place, "a package cannot prove its checkpoint; --rebuild can")
            if original is not None:
                self._rebuilt(manifest, model, reference, original)
        except (ReferencePackError, ModelError) as error:
            self.fail("weights", str(manifest.reference_pack), error)

    def _demo(self, manifest: Manifest, model: ModelSpec, reference: PackReference | None) -> None:
        """Compare the hashes with the demo's, which are the same everywhere, and compute the pack's answers again."""
        expected = demo_hashes(model)
        if dict(manifest.source.checkpoint) != expected:
            self.fail("weights", MANIFEST, "source.checkpoint: is not the demo, which source.weights names")
        elif reference and self.largest:
            prove(reference, None, model, self.progress)
        if self.largest:
            self.checks.append("weights")

    def _rebuilt(
        self, manifest: Manifest, model: ModelSpec, reference: PackReference | None, original: OpenCheckpoint
    ) -> None:
        hashes = {file.path: file.sha256 for file in manifest.files}
        with original(model) as checkpoint, scratch_folder() as scratch:
            check_rebuildable(manifest, checkpoint)
            for number, item in enumerate(manifest.models):
                self.progress(f"converting {item.label} again")
                converted = rebuilt(item, checkpoint, scratch / str(number))
                different = [path for path in converted if hashes[path] != converted[path]]
                for path in different:
                    self.fail("rebuild", path, f"a new conversion gives other bytes, SHA-256 {converted[path]}")
                self.rebuilt |= set() if different else {item.label}
            if reference and self.largest and "weights" not in self.checks:
                check_answers(reference, checkpoint, self.progress)
        self.checks += [name for name in ("weights", "rebuild") if name not in self.checks]


def _check_inputs(model: ModelSpec, manifest: Manifest) -> None:
    """Raises UsageError for inputs that are too large to draw, or others than those of the packaged models."""
    if any(bool(item.input_layout) != model.takes_image for item in manifest.models):
        raise UsageError(f"inputs: the models take {'tensors' if model.takes_image else 'an image'}, others than these")
    if model.takes_image:
        check_shape("shape", model.image_shape)
    for name, shape in model.input_shapes.items():
        check_elements(f"shape of {name}", shape)


def _check_origin(reference: PackReference, manifest: Manifest) -> None:
    contents = reference.contents
    if contents.weights != manifest.source.weights or dict(contents.checkpoint) != dict(manifest.source.checkpoint):
        raise PackageError("its answers are of another checkpoint than the manifest names; get the package again")


def check(
    path: Path, *, signers: Sequence[Path] = (), rebuild: Path | None = None, progress: Progress = silent
) -> CheckResult:
    """Check a package: a folder or an archive.

    `signers` are files of trusted keys, at most one of each kind, as `open_signers` describes. With `rebuild`, a
    checkpoint, convert it again and compare the bytes. Raises what `open_signers` raises, PackageError if the package
    cannot be opened, and what opening the checkpoint raises.
    """
    trusted = open_signers(signers)
    original = None if rebuild is None else partial(open_checkpoint, rebuild)
    with unpacked(path) as folder:
        return replace(Checker(folder, progress).run(signers=trusted, original=original), path=path)
