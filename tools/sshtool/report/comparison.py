"""The verification as text for a person: a row an output, a column an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from sshtool.parity.selftest import FaultResult, HealthyResult, SelfTestReport, Verdict
from sshtool.parity.verify import ArtifactReport, VerifyReport
from sshtool.report.terminal import table

# Failures beyond these are counted, not listed; `--json` and the reports have them all.
LISTED: Final = 12


def comparison_table(report: VerifyReport, *, plain: bool) -> RenderableType:
    """The table of all artifacts, the failures, the worst first, and what a reader must know."""
    columns = ["largest / mean difference", *(f">{artifact.label}" for artifact in report.artifacts)]
    rows = [[name, *(_difference(artifact, name) for artifact in report.artifacts)] for name in report.outputs]
    rows += [
        ["tolerance", *(_tolerance(artifact) for artifact in report.artifacts)],
        ["detections matched", *(_matches(artifact) for artifact in report.artifacts)],
        ["largest corner, score", *(_farthest(artifact) for artifact in report.artifacts)],
        ["runtime", *(artifact.runtime for artifact in report.artifacts)],
        ["verdict", *("same" if artifact.passed else "DIFFERENT" for artifact in report.artifacts)],
    ]
    title = f"{report.model}, weights {report.weights}, against {report.reference}, {len(report.samples)} samples"
    lines = [*_failures(report), *(f"note: {note}" for note in report.notes)]
    verdict = "passed: the same detector" if report.passed else f"FAILED: {len(report.failures)} failures"
    body = Text("\n".join([*lines, verdict]), style="" if report.passed else "red")
    return Group(table(columns, rows, title=title, plain=plain), body) if report.artifacts else body


def _failures(report: VerifyReport) -> Sequence[str]:
    lines = [f"{item.artifact}, {item.sample or 'all'}: {item.message}" for item in report.failures]
    return lines[:LISTED] + ([f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else [])


def _difference(artifact: ArtifactReport, output: str) -> str:
    found = [tensor for item in artifact.samples for tensor in item.tensors if tensor.output == output]
    problem = next((tensor.problem for tensor in found if tensor.problem), "")
    largest = [tensor.largest for tensor in found if tensor.largest is not None]
    means = [tensor.mean for tensor in found if tensor.mean is not None]
    if problem or not largest:
        return problem or "not run"
    return f"{max(largest):.2e} / {sum(means) / len(means):.2e}"


def _tolerance(artifact: ArtifactReport) -> str:
    limits = {(tensor.atol, tensor.rtol) for item in artifact.samples for tensor in item.tensors}
    return ", ".join(f"{atol:g} + {rtol:g} |x|" for atol, rtol in sorted(limits))


def _matches(artifact: ArtifactReport) -> str:
    extra = f", {artifact.extra} extra" if artifact.extra else ""
    near = f", {artifact.near_threshold} near the threshold" if artifact.near_threshold else ""
    return f"{artifact.matched} of {artifact.matched + artifact.missing}{extra}{near}"


def _farthest(artifact: ArtifactReport) -> str:
    faces = [found for item in artifact.samples for found in item.detections]
    corner = max((found.largest_corner for found in faces), default=0.0)
    score = max((found.largest_score for found in faces), default=0.0)
    return f"{corner:.2g} px, {score:.1e}"


def self_test_table(report: SelfTestReport, *, plain: bool) -> RenderableType:
    """Every planted fault, and what caught it."""
    rows = [
        [item.fault, item.artifact, item.verdict.value, item.check, _excess(item), item.reason or item.message]
        for item in report.faults
    ]
    columns = ["planted fault", "artifact", "verdict", "caught by", ">times the limit", "what it said"]
    lines = [f"{item.artifact} as it is: {_found(item)}" for item in report.healthy]
    counts = ", ".join(f"{report.count(verdict)} {verdict.value}" for verdict in Verdict)
    lines.append(f"self-test {'passed' if report.passed else 'FAILED'}: {counts}")
    return Group(table(columns, rows, plain=plain), Text("\n".join(lines), style="" if report.passed else "red"))


def _found(healthy: HealthyResult) -> str:
    return "nothing found" if healthy.passed else f"{len(healthy.failures)} failures, so no fault was planted"


def _excess(result: FaultResult) -> str:
    return "" if result.excess is None else f"{result.excess:.3g}"
