"""`sshtool check`: compare a package with its manifest, and its models with the original's answers, offline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sshtool.cli.options import Confinement, Option, Output
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.package.check import CheckResult

MOST_SHOWN: Final = 50  # findings in the table; --json has all

_VERDICTS: Final = {
    "passed": "passed",
    "failed": "FAILED: it is not what it says",
    "unproven": "NOT PROVEN: no fault was found, but not all of its models were compared with the original",
}


@dataclass(frozen=True)
class Check(Verb):
    """Check a package offline: the hashes, missing and extra files, and the models' answers. Exit code 3 unless it
    passes.
    """

    path: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="A package: its folder, or its archive.", show_default=False)
    ]
    signers: Annotated[
        tuple[Path, ...],
        Option(
            "Keys that you trust: ssh-keygen's allowed signers, or EC public keys in PEM (OpenSSF Model Signing). One "
            "must have signed the package. Repeatable, once for each kind: then both must have."
        ),
    ] = ()
    rebuild: Annotated[Path | None, Option("Convert this checkpoint again, and compare the bytes.")] = None
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        self.confinement.apply()
        from sshtool.package.check import check

        result = check(self.path, signers=self.signers, rebuild=self.rebuild, progress=session.progress)
        session.finish(result, render, passed=result.passed)


def render(result: CheckResult, plain: bool) -> RenderableType:
    """Render the verdict, the models' differences and the findings."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    checked = f"checked: {', '.join(result.checks) or 'nothing'}"
    parts: list[RenderableType] = [lines(f"{result.path}: {_VERDICTS[result.verdict]}; {checked}")]
    if result.parity:
        rows = [[label, "" if value is None else f"{value:.2g}"] for label, value in result.parity.items()]
        parts.append(table(["model", ">largest difference from the original"], rows, plain=plain))
    if result.findings:
        rows = [[item.check, item.path, item.message] for item in result.findings[:MOST_SHOWN]]
        parts.append(table(["check", "file", "what is wrong"], rows, plain=plain, keys=2))
    return Group(*parts, lines(*_remarks(result)))


def _remarks(result: CheckResult) -> list[str]:
    """The signer, and the claims that were not checked."""
    from sshtool.package.check import UNSIGNED
    from sshtool.package.declarations import claim_lines

    remarks = []
    if len(result.findings) > MOST_SHOWN:
        remarks.append(f"and {len(result.findings) - MOST_SHOWN} more findings")
    remarks.append(f"signed by {result.signed_by}" if result.signed_by else UNSIGNED)
    if result.verification == "unverified":
        remarks.append("the manifest declares models that were not verified")
    return [*remarks, *claim_lines(result.claims)]
