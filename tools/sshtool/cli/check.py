"""`sshtool check`: whether a package is whole, and its models answer as the original did. Offline."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType

from sshtool.package.check import UNSIGNED, CheckResult, Verdict
from sshtool.package.declarations import described
from sshtool.report.terminal import lines, table

MOST_SHOWN: Final = 50  # findings, to a person

_MEANING: Final = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "FAILED: it is not what it says",
    Verdict.UNPROVEN: "NOT PROVEN: nothing wrong was found, but not all of its models were compared with the original",
}


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
