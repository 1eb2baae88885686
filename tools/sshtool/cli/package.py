"""`sshtool package`: put verified artifacts into a folder or archive for others to check and deploy."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from sshconvert.errors import UsageError
from sshconvert.messages import printable
from sshtool.cli.options import Artifacts, DryRun, Network, Option, Output
from sshtool.cli.parsing import check_counts
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.package.build import PackageResult

PASSWORD: Final = "SSHTOOL_KEY_PASSWORD"  # noqa: S105  # the name of a variable


@dataclass(frozen=True)
class Package(Verb):
    """Put verified artifacts into a folder or archive that others can check and deploy."""

    place: Network = field(default_factory=Network)
    artifact: Artifacts = ()
    verification: Annotated[Path | None, Option("Of `verify --json`; by default the record beside the artifacts.")] = (
        None
    )
    evaluation: Annotated[Path | None, Option("Of `evaluate --json`, for the model card.")] = None
    bench: Annotated[Path | None, Option("Of `bench --json`, for the model card.")] = None
    reference: Annotated[Path | None, Option("Pack to include; by default that beside the artifacts.")] = None
    layout: Annotated[
        str,
        Option("Where the models lie.", choices=("flat", "huggingface", "ovms", "triton", "web")),
    ] = "flat"
    archive: Annotated[str, Option("Write an archive too.", choices=("zip", "tar.gz"))] = ""
    allow_unverified: Annotated[
        bool, Option("Take artifacts that have not passed `verify`; the package says so.", rare=True)
    ] = False
    sign: Annotated[
        Path | None,
        Option(
            "EC private key in PEM for a signature of OpenSSF Model Signing. The password of an encrypted key is in "
            f"{PASSWORD}, or is asked for.",
            rare=True,
        ),
    ] = None
    runtime_files: Annotated[
        Path | None, Option("The folder `dist` of the npm package onnxruntime-web, for --layout web.", rare=True)
    ] = None
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        check_counts({"--artifact": self.artifact})
        from sshtool.package.build import PackageOptions, package
        from sshtool.package.openssf import read_signing_key

        options = PackageOptions(
            self.artifact,
            self.verification,
            self.evaluation,
            self.bench,
            self.reference,
            self.layout.lower(),
            self.archive.lower(),
            self.allow_unverified,
            read_signing_key(self.sign, partial(_password, session=session)) if self.sign else None,
            self.runtime_files,
        )
        result = package(self.place.open()[0], options, dry_run=self.dry_run, progress=session.progress)
        session.finish(result, render)


def _password(path: Path, session: Session) -> str:
    """The password of a private key, from the environment or the terminal. Raises UsageError if there is neither."""
    if (password := os.environ.get(PASSWORD)) is not None:
        return password
    if sys.stdin is not None and sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            return session.ask_password(f"password of {printable(path)}: ")
    raise UsageError(f"--sign: {path} is encrypted; set {PASSWORD}, or run sshtool at a terminal, which asks")


def render(result: PackageResult, plain: bool) -> RenderableType:
    """Render a row for each file, then the paths and the hash."""
    from rich.console import Group

    from sshtool.package.manifest import SUMS
    from sshtool.report.terminal import lines, table

    rows = [[file.path, file.role.value, f"{file.bytes / 1e6:.2f}", file.sha256[:12]] for file in result.files]
    status = "verified" if result.verified else "NOT verified"
    files = table(["file", "role", ">MB", "SHA-256"], rows, title=f"{result.model}, {status}", plain=plain)
    remarks = [f"package: {result.folder}", *([f"archive: {result.archive}"] if result.archive else [])]
    remarks.append(f"SHA-256 of {SUMS}: {result.sha256}" if result.sha256 else "nothing was written")
    remarks += [f"signed by {result.signed_by}"] if result.sha256 and result.signed_by else []
    if not result.with_reference:
        remarks.append(
            "No reference pack fits this checkpoint and size: others cannot compare the models with the original, and "
            '`sshtool check` ends with "not proven". `sshtool reference` makes a pack.'
        )
    return Group(*([files] if rows else []), lines(*remarks))
