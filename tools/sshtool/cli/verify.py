"""`sshtool verify`: whether artifacts compute what the original computes, with the evidence."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.parity.layers import Divergence
from sshtool.parity.verification import VerifyResult
from sshtool.report.comparison import comparison_table, self_test_table
from sshtool.report.terminal import lines


def render(result: VerifyResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    parts = [comparison_table(result.report, plain=plain)]
    if result.divergences:
        parts.append(lines(*map(_where, result.divergences)))
    if result.self_test:
        parts.append(self_test_table(result.self_test, plain=plain))
    if result.written:
        parts.append(lines(*(f"report: {path}" for path in result.written)))
    return Group(*parts)


def _where(divergence: Divergence) -> str:
    place = f"{divergence.artifact} on {divergence.sample}"
    if not divergence.layer:
        return f"{place}: all {divergence.compared} tensors inside agree to {divergence.limit:g} of their range"
    before = f"; {divergence.before}, before it, agrees" if divergence.before else ""
    return (
        f"{place}: {divergence.layer} is the first to differ, by {divergence.relative:.2g} of its range "
        f"({divergence.limit:g} allowed){before}"
    )
