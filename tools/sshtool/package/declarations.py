"""Compares a manifest with the package's files, the model's description and the layout.

A statement that cannot be compared is a claim, and the check reports it as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sshconvert.contract import TOOL, WEIGHTS, Contract
from sshconvert.digest import bytes_sha256
from sshconvert.errors import ArtifactError, PackageError, RuntimeUnavailableError, UsageError
from sshconvert.formats.registry import FORMATS
from sshconvert.messages import listed, shown
from sshconvert.model_api import MODEL_INFO, model_info
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.schema import one_line
from sshconvert.tasks.tolerances import PROFILES
from sshtool.package.card import FILE as CARD
from sshtool.package.evidence import Evidence, read_verification, verification_of
from sshtool.package.layouts import LAYOUTS, Layout
from sshtool.package.manifest import DESCRIPTION, MANIFEST, Manifest, PackagedModel, Role
from sshtool.package.packaged_model import packaged_model, read_contract
from sshtool.package.rebuild import options_of
from sshtool.package.sbom import FILE as BILL
from sshtool.workspace import VERIFICATION

PAGE: Final = "verification.html"
LICENCES: Final = "LICENSES"

_ROLES: Final = {
    DESCRIPTION: Role.DESCRIPTION,
    CARD: Role.CARD,
    BILL: Role.BILL,
    VERIFICATION: Role.REPORT,
    PAGE: Role.REPORT,
}
_OF_LAYOUTS: Final = (Role.CONFIGURATION, Role.PAGE)
_TEXTS: Final = (Role.DESCRIPTION, Role.CARD, Role.REPORT, Role.BILL, Role.LICENCE)


@dataclass(frozen=True)
class Finding:
    """A fault of a package: the check that saw it, the file, and the message."""

    check: str
    path: str
    message: str


@dataclass(frozen=True)
class Claim:
    """An unchecked statement of a package: its file, its place in the file, and why it is not checked."""

    path: str
    place: str
    reason: str


class Declarations:
    """Compares the manifest of the package in `folder`, and collects `findings` and `claims`."""

    CHECK: Final = "declarations"

    def __init__(self, folder: Path, manifest: Manifest, model: ModelSpec, progress: Callable[[str], None]) -> None:
        self.folder, self.manifest, self.model, self.progress = folder, manifest, model, progress
        self.findings: list[Finding] = []
        self.claims: list[Claim] = []
        self._record_unreadable = False

    def compare(self) -> None:
        layout = LAYOUTS.get(self.manifest.layout)
        if layout is None:
            self._fail(MANIFEST, f"layout: {shown(self.manifest.layout)} is not one of {', '.join(LAYOUTS)}")
            return
        self._equal(MANIFEST, "title", self.manifest.title, self.model.title)
        evidence = self._evidence()
        for number, item in enumerate(self.manifest.models):
            self.progress(f"reading {item.path}")
            self._model(number, item, layout, evidence)
        self._source()
        self._verification(evidence)
        expected = self._layout_files(layout)
        self._roles(expected)
        if not self.findings:
            self._configuration(layout, expected)
        self._texts()

    def _model(self, number: int, item: PackagedModel, layout: Layout, evidence: Evidence | None) -> None:
        try:
            contract = read_contract(self.folder / item.path)
            verified = evidence is not None and evidence.about(self._hashes(item.files)) is not None
            expected = packaged_model(self.folder / item.path, contract, self.model.name, layout, verified=verified)
        except ArtifactError as error:
            self._fail(item.path, error)
            return
        except RuntimeUnavailableError as error:
            self._claim(MANIFEST, f"models.{number}", f"{item.path} cannot be read here: {error}")
            return
        if self._record_unreadable:
            expected = expected.model_copy(update={"verified": item.verified})
            self._claim(MANIFEST, f"models.{number}.verified", f"{VERIFICATION} cannot be read")
        if item.precision not in PROFILES:
            self._fail(item.path, f"precision: {shown(item.precision)} is not one of {', '.join(PROFILES)}")
        elif FORMATS[expected.format].is_quantized(self.folder / item.path) != (item.precision == Precision.INT8.value):
            self._fail(item.path, f"precision: it says {item.precision}, but is not stored in it")
        for field in PackagedModel.model_fields:
            self._equal(item.path, field, getattr(item, field), getattr(expected, field))
        self._metadata(number, item, contract)

    def _metadata(self, number: int, item: PackagedModel, contract: Contract) -> None:
        """Compare the metadata of a file with those that a conversion with the same options writes."""
        self._equal(item.path, WEIGHTS, contract.weights, self.manifest.source.weights)
        try:
            options = options_of(item, self.model)
        except ValueError as error:
            self._fail(item.path, error)
            return
        converted = Contract.of(self.model, self.manifest.source.weights, options, item.precision)
        outputs = {output.name: output.shape for output in item.outputs}
        self._equal(item.path, MODEL_INFO, dict(contract.model_info), model_info(self.model, options, outputs))
        expected = FORMATS[item.format].entries(converted)
        for key, value in sorted(contract.metadata.items()):
            if key in expected and key != TOOL:
                self._equal(item.path, key, value, expected[key])
            else:
                self._claim(MANIFEST, f"models.{number}.options.{one_line(key)}", "only the file itself states it")

    def _source(self) -> None:
        source = self.manifest.source
        scheme, _, digest = source.weights.partition(":")
        self._equal(MANIFEST, "source.archive_sha256", source.archive_sha256, digest if scheme == "sha256" else None)
        if scheme == "params-sha256" and source.checkpoint and digest not in source.checkpoint.values():
            self._fail(MANIFEST, "source.checkpoint: no file has the hash in source.weights")

    def _evidence(self) -> Evidence | None:
        if VERIFICATION not in {file.path for file in self.manifest.files}:
            return None
        try:
            return read_verification(self.folder / VERIFICATION, self.model)
        except PackageError as error:  # perhaps another version wrote it; the models' answers do not depend on it
            self._record_unreadable = True
            self._claim(VERIFICATION, "", f"this version cannot read it: {error}")
            return None

    def _verification(self, evidence: Evidence | None) -> None:
        """Compare the manifest with the record of the verification. That the record is true is a claim."""
        self._claim(MANIFEST, "verification", "its author states it; the check compares answers separately")
        self._claim(MANIFEST, "versions", "its author states them")
        if self._record_unreadable:
            return
        report = evidence.report if evidence else None
        expected = verification_of(report, [model.verified for model in self.manifest.models])
        for field in type(expected).model_fields:
            self._equal(
                MANIFEST, f"verification.{field}", getattr(self.manifest.verification, field), getattr(expected, field)
            )
        if report:
            self._equal(MANIFEST, "versions", dict(self.manifest.versions), dict(report.environment))
            if report.weights:
                self._equal(VERIFICATION, "weights", report.weights, self.manifest.source.weights)

    def _roles(self, configured: Mapping[str, str]) -> None:
        for file in self.manifest.files:
            known = _ROLES.get(file.path) or (Role.LICENCE if file.path.startswith(f"{LICENCES}/") else None)
            if known and file.role is not known:
                self._fail(file.path, f"role: expected {known.value}, the manifest says {file.role.value}")
            elif not known and file.role in _TEXTS:
                self._fail(file.path, f"role: no package has a {file.role.value} of that name")
            elif file.role in _OF_LAYOUTS and file.path not in configured:
                self._fail(file.path, f"role: the layout has no such {file.role.value}")

    def _layout_files(self, layout: Layout) -> Mapping[str, str]:
        """SHA-256 by path of the layout's files for these models."""
        try:
            own = layout.configuration(self.manifest.models, self.model)
        except (KeyError, IndexError, ValueError):  # the models contradict the layout, which `_model` reports
            return {}
        except UsageError as error:
            self._fail(MANIFEST, error)
            return {}
        vendored = layout.vendored.hashes if layout.vendored else {}
        return {path: bytes_sha256(data) for path, data in own.items()} | vendored

    def _configuration(self, layout: Layout, expected: Mapping[str, str]) -> None:
        hashes = {file.path: file.sha256 for file in self.manifest.files if file.role is layout.role}
        for path in sorted(expected.keys() | hashes.keys()):
            if expected.get(path) != hashes.get(path):
                self._fail(path, f"is not the {layout.role.value} of the layout {layout.key} for these models")

    def _texts(self) -> None:
        """The texts of files for readers and other programs are claims; only their hashes are checked."""
        for file in self.manifest.files:
            if file.role in _TEXTS:
                self._claim(file.path, "", "its text; the checksum is right")

    def _hashes(self, paths: Sequence[str]) -> Mapping[str, str]:
        hashes = {file.path: file.sha256 for file in self.manifest.files}
        return {path: hashes[path] for path in paths}

    def _equal(self, path: str, field: str, declared: Any, expected: Any) -> None:
        if declared != expected:
            self._fail(path, f"{field}: it says {shown(declared)}, expected {shown(expected)}")

    def _fail(self, path: str, message: object) -> None:
        self.findings.append(Finding(self.CHECK, path, one_line(message)))

    def _claim(self, path: str, place: str, reason: str) -> None:
        self.claims.append(Claim(path, place, one_line(reason)))


def claim_lines(claims: Iterable[Claim]) -> list[str]:
    """The claims as text: a line for each reason."""
    places: dict[str, list[str]] = {}
    for claim in claims:
        places.setdefault(claim.reason, []).append(f"{claim.path} ({claim.place})" if claim.place else claim.path)
    return [f"not checked: {listed(items, ', ')}: {reason}" for reason, items in places.items()]
