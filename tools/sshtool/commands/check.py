"""`sshtool check`: whether a package is whole, and its models answer as the original did. Offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType

from sshtool.checkpoint.archive import opened as opened_checkpoint
from sshtool.package.check import UNSIGNED, Checker, Verdict
from sshtool.package.declarations import Claim, Finding, described
from sshtool.package.signing import read_signers
from sshtool.package.unpacking import opened
from sshtool.progress import Progress, silent
from sshtool.report.terminal import lines, table

MOST_SHOWN: Final = 50  # findings, to a person

_MEANING: Final = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "FAILED: it is not what it says",
    Verdict.UNPROVEN: "NOT PROVEN: nothing wrong was found, but not all of its models were compared with the original",
}


@dataclass(frozen=True)
class CheckResult:
    """What was checked and found, and what the package only claims.

    `parity` is for each model that was run its largest difference from the original's answers. `signed_by` is who of
    the trusted signers signed it, "" without a signature or without signers.
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


def check(
    path: Path,
    *,
    signers: Path | None = None,
    rebuild: Path | None = None,
    progress: Progress = silent,
) -> CheckResult:
    """Check a package, a folder or an archive. With `rebuild`, a checkpoint, convert it again and compare the bytes.

    Raises UsageError if `signers` holds no keys, PackageError if there is nothing that can be checked, and what opening
    the checkpoint raises.
    """
    if signers is not None:
        read_signers(signers)
    original = None if rebuild is None else partial(opened_checkpoint, rebuild)
    with opened(path) as folder:
        report = Checker(folder, progress).run(signers=signers, original=original)
    manifest = report.manifest
    return CheckResult(
        path,
        manifest.model if manifest else "",
        manifest.source.weights if manifest else "",
        manifest.verification.status if manifest else "",
        report.verdict,
        tuple(report.checks),
        tuple(report.findings),
        tuple(report.claims),
        report.signed_by,
        report.largest,
    )


def render(result: CheckResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
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
    said = []
    if len(result.findings) > MOST_SHOWN:
        said.append(f"and {len(result.findings) - MOST_SHOWN} more findings")
    said.append(f"signed by {result.signed_by}" if result.signed_by else UNSIGNED)
    if result.verification == "unverified":
        said.append("the package itself says that it holds models that were not verified")
    return [*said, *described(result.claims)]
