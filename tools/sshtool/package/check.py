"""Whether a package is what its manifest says, and its models are what they are said to be. Nothing is fetched.

All findings are collected. Once the files are not what they were, nothing in them is opened by a runtime.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from sshconvert.errors import ArtifactError, PackageError, ReferencePackError, SSHToolError
from sshconvert.models import Model, load_model
from sshconvert.reading import is_file, open_regular, read_small
from sshconvert.schema import one_line
from sshtool.package.manifest import LARGEST_MANIFEST, MANIFEST, SUMS, Manifest, parse_manifest, parse_sums
from sshtool.package.signature import read_signature
from sshtool.parity.pack import PackReference, read_pack
from sshtool.parity.reference import Progress, silent
from sshtool.parity.verify import Candidate, VerifyReport, verify

SIGNATURE: Final = "SHA256SUMS.sig"  # by `ssh-keygen -Y sign -n file`
ATTESTATION: Final = "SHA256SUMS.sigstore.json"  # by a CI job; `gh attestation verify` checks it, with the network
NAMESPACE: Final = "file"
MOST_FILES: Final = 2000
PATIENCE: Final = 60  # seconds, with `ssh-keygen`

# Converts a packaged model's checkpoint again, as it was converted. Gives its files' hashes, in the package's order.
Rebuild = Callable[[Manifest, int], "Mapping[str, str]"]


Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be: what was checked, of which file, and what is wrong."""

    check: str
    path: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """The findings, what was checked, and what was left out and why."""

    manifest: Manifest | None
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    parity: VerifyReport | None

    @property
    def passed(self) -> bool:
        return not self.findings


class Checker:
    """Collects what is wrong with the package in `folder`."""

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress
        self.findings: list[Finding] = []
        self.checks: list[str] = []
        self.notes: list[str] = []

    def run(
        self,
        *,
        signers: Path | None = None,
        models: bool = True,
        rebuild: Rebuild | None = None,
    ) -> CheckReport:
        """Check everything. `signers` is a file of keys that are trusted, as `ssh-keygen` has it."""
        manifest = self._files()
        self._signature(signers)
        parity = None
        if manifest and not self.findings and models:
            parity = self._models(manifest)
        if manifest and not self.findings and rebuild:
            self._rebuilt(manifest, rebuild)
        return CheckReport(manifest, tuple(self.findings), tuple(self.checks), tuple(self.notes), parity)

    def fail(self, check: str, path: str, message: object) -> None:
        self.findings.append(Finding(check, path, one_line(message)))

    def _files(self) -> Manifest | None:
        """Names, sizes and hashes, by the manifest and by SHA256SUMS, each of which has to know every file."""
        self.progress("hashing the files")
        there = self._listing()
        hashes = {path: sha256 for path, (_, sha256) in there.items()}
        manifest = self._parsed(MANIFEST, parse_manifest)
        sums = self._parsed(SUMS, parse_sums)
        self.checks += ["manifest", "checksums"]
        if sums is not None:
            named = set(hashes) - {SUMS, SIGNATURE, ATTESTATION}
            for path in sorted(named ^ set(sums)):
                self.fail("checksums", path, "is not in SHA256SUMS" if path in named else "is in SHA256SUMS, not there")
            for path in sorted(named & set(sums)):
                if hashes[path] != sums[path]:
                    self.fail("checksums", path, "has another SHA-256 than SHA256SUMS says")
        if manifest is not None:
            said = {file.path: file for file in manifest.files}
            named = set(hashes) - {MANIFEST, SUMS, SIGNATURE, ATTESTATION}
            for path in sorted(named ^ set(said)):
                self.fail("manifest", path, "is not in the manifest" if path in named else "is missing")
            for path in sorted(named & set(said)):
                size, sha256 = there[path]
                if (size, sha256) != (said[path].bytes, said[path].sha256):
                    self.fail("manifest", path, f"has {size} bytes and SHA-256 {sha256}, not those of the manifest")
        return manifest

    def _parsed(self, name: str, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        try:
            return parse(read_small(self.folder / name, LARGEST_MANIFEST))
        except OSError as error:
            self.fail("manifest", name, f"cannot be read ({error.strerror})")
        except ValueError as error:
            self.fail("manifest", name, error)
        return None

    def _listing(self) -> dict[str, tuple[int, str]]:
        """Size and hash of every file below the folder. What is no file is a finding."""
        found: dict[str, tuple[int, str]] = {}
        try:
            for path in _walk(self.folder):
                name = path.relative_to(self.folder).as_posix()
                if len(found) >= MOST_FILES:
                    self.fail("files", name, f"there are more than {MOST_FILES} files")
                    break
                try:
                    found[name] = _measure(path)
                except OSError as error:
                    self.fail("files", name, f"cannot be read ({error.strerror})")
        except OSError as error:
            self.fail("files", ".", f"a folder in it cannot be listed ({error.strerror})")
        return found

    def _signature(self, signers: Path | None) -> None:
        signature = self.folder / SIGNATURE
        if is_file(self.folder / ATTESTATION):
            self.notes.append(f"{ATTESTATION} is there; its signature is checked by `gh attestation verify`, online")
        if not is_file(signature):
            if signers:
                self.fail("signature", SIGNATURE, "there is none, and --signers asks for one")
            return
        if signers is None:
            self.notes.append(f"{SIGNATURE} is there and was not checked; name the keys that you trust with --signers")
            return
        self.checks.append("signature")
        problem = _check_signature(self.folder / SUMS, signature, signers)
        if problem:
            self.fail("signature", SIGNATURE, problem)

    def _models(self, manifest: Manifest) -> VerifyReport | None:
        """The models load, declare what the manifest says, and answer as the original did."""
        self.checks.append("models")
        try:
            model = load_model(manifest.model)
        except SSHToolError as error:
            self.fail("models", MANIFEST, error)
            return None
        for item in manifest.models:
            self.progress(f"reading {item.path}")
            try:
                signature = read_signature(self.folder / item.path)
            except ArtifactError as error:
                self.fail("models", item.path, error)
                continue
            if (signature.input, signature.outputs) != (item.input, item.outputs):
                self.fail("models", item.path, "declares other tensors than the manifest says")
            if dict(signature.metadata) != dict(item.options):
                self.fail("models", item.path, "says other things of itself than the manifest does")
        return None if self.findings else self._parity(manifest, model)

    def _parity(self, manifest: Manifest, model: Model) -> VerifyReport | None:
        if manifest.reference_pack is None:
            self.notes.append("there is no reference pack, so the models were not held to the original")
            return None
        self.checks.append("reference pack")
        try:
            reference = read_pack(self.folder / manifest.reference_pack, model)
            _check_origin(reference, manifest)
            candidates = [Candidate(self.folder / item.path, item.precision) for item in manifest.models]
            report = verify(model, reference, candidates, progress=self.progress)
        except (ReferencePackError, PackageError) as error:
            self.fail("reference pack", manifest.reference_pack, error)
            return None
        for failure in report.failures:
            self.fail("reference pack", failure.artifact, failure.message)
        return report

    def _rebuilt(self, manifest: Manifest, rebuild: Rebuild) -> None:
        self.checks.append("rebuild")
        said = {file.path: file.sha256 for file in manifest.files}
        for number, item in enumerate(manifest.models):
            self.progress(f"converting {item.label} again")
            for path, sha256 in rebuild(manifest, number).items():
                if said[path] != sha256:
                    self.fail("rebuild", path, f"comes out as other bytes, SHA-256 {sha256}")


def _check_origin(reference: PackReference, manifest: Manifest) -> None:
    contents = reference.contents
    if contents.weights != manifest.source.weights or dict(contents.checkpoint) != dict(manifest.source.checkpoint):
        raise PackageError("its answers are of another checkpoint than the manifest names; get the package again")


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder that is no folder, or an empty one, always in the same order. Links are not followed.

    Raises OSError if a folder cannot be listed.
    """
    folders = [folder]
    while folders:
        here = folders.pop()
        entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        if not entries and here != folder:
            yield here
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path)


def _measure(path: Path) -> tuple[int, str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
        raise OSError(0, "it is a link" if stat.S_ISLNK(mode) else "it is an empty folder")
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _check_signature(signed: Path, signature: Path, signers: Path) -> str:
    """What is wrong with an SSH signature; nothing if one of the signers made it. Uses OpenSSH."""
    try:
        found = _ssh_keygen("find-principals", "-s", str(signature), "-f", str(signers))
        if found.returncode:
            return "is by none of the signers"
        who = found.stdout.splitlines()[0]
        with signed.open("rb") as file:
            checked = _ssh_keygen(
                "verify", "-f", str(signers), "-I", who, "-n", NAMESPACE, "-s", str(signature), stdin=file
            )
    except FileNotFoundError:
        return "cannot be checked: ssh-keygen is not installed"
    except subprocess.TimeoutExpired:
        return "cannot be checked: ssh-keygen does not answer"
    return "" if checked.returncode == 0 else "is not of these checksums"


def _ssh_keygen(what: str, *arguments: str, stdin: BinaryIO | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # no shell, and what a stranger sent is read as data
        ["ssh-keygen", "-Y", what, *arguments],  # noqa: S607  # wherever the system has it
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
