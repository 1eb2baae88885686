"""`sshtool check`: whether a package is whole, and its models answer as the original did. Offline."""

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

MOST_SHOWN: Final = 50  # findings, to a person

# Of each verdict, by its value.
_MEANING: Final = {
    "passed": "passed",
    "failed": "FAILED: it is not what it says",
    "unproven": "NOT PROVEN: nothing wrong was found, but not all of its models were compared with the original",
}


@dataclass(frozen=True)
class Check(Verb):
    """Check a package, offline: hashes, nothing extra or missing, and the models' answers. Exit code 3 if it is not
    what it says.
    """

    path: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="A package: its folder, or its archive.", show_default=False)
    ]
    signers: Annotated[
        Path | None, Option("Keys that you trust (ssh-keygen's allowed signers): one has to have signed it.")
    ] = None
    rebuild: Annotated[Path | None, Option("A checkpoint: convert it again, and compare the bytes.")] = None
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        self.confinement.apply()
        from sshtool.package.check import check

        result = check(self.path, signers=self.signers, rebuild=self.rebuild, progress=session.progress)
        session.finish(result, render, passed=result.passed)


def render(result: CheckResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    checked = f"checked: {', '.join(result.checks) or 'nothing'}"
    parts: list[RenderableType] = [lines(f"{result.path}: {_MEANING[result.verdict]}; {checked}")]
    if result.parity:
        rows = [[label, "" if value is None else f"{value:.2g}"] for label, value in result.parity.items()]
        parts.append(table(["model", ">largest difference from the original"], rows, plain=plain))
    if result.findings:
        rows = [[item.check, item.path, item.message] for item in result.findings[:MOST_SHOWN]]
        parts.append(table(["check", "file", "what is wrong"], rows, plain=plain, keys=2))
    return Group(*parts, lines(*_said(result)))


def _said(result: CheckResult) -> list[str]:
    """What else there is to know, and what was not checked."""
    from sshtool.package.check import UNSIGNED
    from sshtool.package.declarations import described

    said = []
    if len(result.findings) > MOST_SHOWN:
        said.append(f"and {len(result.findings) - MOST_SHOWN} more findings")
    said.append(f"signed by {result.signed_by}" if result.signed_by else UNSIGNED)
    if result.verification == "unverified":
        said.append("the package itself says that it holds models that were not verified")
    return [*said, *described(result.claims)]
