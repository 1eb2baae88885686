"""The result of `sshtool verify` as a table for a terminal: a row for each output, a column for each artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from rich.console import Group, RenderableType

from sshconvert.messages import count
from sshtool.parity.selftest import HealthyResult, SelfTestReport, Verdict
from sshtool.parity.verify import ArtifactReport, VerifyReport
from sshtool.report.summary import (
    Column,
    allowed,
    candidates,
    columns,
    cost_of_detections,
    cost_of_tensors,
    costs,
    distance,
    excused,
    farthest,
    figure_names,
    has_results,
    headline,
    limit,
    matched,
    notes,
    times,
)
from sshtool.report.terminal import lines, table

# The number of listed failures. `--json` and the reports hold all.
LISTED: Final = 12
LISTED_LIMITS: Final = 4  # of tolerances; those of tensors of any scale all differ


def comparison_table(report: VerifyReport, *, plain: bool) -> RenderableType:
    """The table of all artifacts, the failures, the worst first, the notes and the verdict."""
    artifacts = columns(report)
    results: dict[str, Callable[[ArtifactReport], str]] = {
        "detections matched": _matches,
        "largest corner, score": _farthest,
    }
    figures: dict[str, Callable[[ArtifactReport], str]] = {
        **{name: partial(_difference, output=name) for name in report.outputs},
        "tolerance": partial(_tolerance, report=report),
        **(results if has_results(report) and not figure_names(report) else {}),
        **({"candidates": candidates} if any(map(candidates, report.artifacts)) else {}),
        **{name: partial(_figure, name=name) for name in figure_names(report)},
        **_costs(report),
        "runtime": lambda artifact: artifact.runtime,
    }
    rows = [
        [name, *(figure(item.report) if item.report else "not loaded" for item in artifacts)]
        for name, figure in figures.items()
    ]
    rows.append(["verdict", *("same" if item.passed else "DIFFERENT" for item in artifacts)])
    title = f"{report.model}, weights {report.weights}, against {report.reference}, {len(report.samples)} samples"
    heads = [_measure(report), *(f">{item.label}" for item in artifacts)]
    failed = f"FAILED: {count(len(report.failures), 'failure')}"
    verdict = f"passed: {headline(report).lower()}{excused(report)}" if report.passed else failed
    sentence = filter(None, (distance(report),))
    noted = (f"note: {note}" for note in notes(report))
    body = lines(*_failures(report), *noted, verdict, *sentence, style="" if report.passed else "red")
    return Group(table(heads, rows, title=title, plain=plain), body)


def _measure(report: VerifyReport) -> str:
    if not report.yardsticks:
        return "largest / mean difference"
    return f"times as far as {report.yardsticks[0].source} / largest difference"


def _costs(report: VerifyReport) -> dict[str, Callable[[ArtifactReport], str]]:
    """The rows of the cost of rounded weights."""
    if not any(map(costs, report.artifacts)):
        return {}
    rows: dict[str, Callable[[ArtifactReport], str]] = {"cost of the precision": _cost}
    if has_results(report) and not figure_names(report):
        rows["cost in detections"] = lambda artifact: cost_of_detections(costs(artifact))
    return rows


def _cost(artifact: ArtifactReport) -> str:
    if not costs(artifact):
        return ""
    return f"{cost_of_tensors(tensor for item in costs(artifact) for tensor in item.tensors)} of an output's range"


def _failures(report: VerifyReport) -> Sequence[str]:
    messages = [f"{item.artifact}, {item.sample or 'all'}: {item.message}" for item in report.failures]
    return messages[:LISTED] + ([f"and {len(messages) - LISTED} more"] if len(messages) > LISTED else [])


def _figure(artifact: ArtifactReport, name: str) -> str:
    return artifact.figures.get(name, "not compared")


def _difference(artifact: ArtifactReport, output: str) -> str:
    tensors = [tensor for item in artifact.samples for tensor in item.tensors if tensor.output == output]
    problem = next((tensor.problem for tensor in tensors if tensor.problem), "")
    largest = [tensor.largest for tensor in tensors if tensor.largest is not None]
    means = [tensor.mean for tensor in tensors if tensor.mean is not None]
    if problem or not largest:
        return problem or "not run"
    factor = farthest(Column(artifact.label, artifact, ()), output)
    if factor is not None:
        return f"{times(factor)} / {max(largest):.2e}"
    return f"{max(largest):.2e} / {sum(means) / len(means):.2e}"


def _tolerance(artifact: ArtifactReport, report: VerifyReport) -> str:
    if words := allowed(artifact, report):
        return words
    limits = {(tensor.atol, tensor.rtol) for item in artifact.samples for tensor in item.tensors}
    texts = [limit(*pair) for pair in sorted(limits)]
    return ", ".join(texts) if len(texts) <= LISTED_LIMITS else f"{texts[0]} to {texts[-1]}, by the tensor's range"


def _matches(artifact: ArtifactReport) -> str:
    extra = f", {artifact.extra} extra" if artifact.extra else ""
    near = f", {artifact.near_threshold} near the threshold" if artifact.near_threshold else ""
    undecided = f", {artifact.open} open" if artifact.open else ""
    return f"{matched(artifact)}{extra}{near}{undecided}"


def _farthest(artifact: ArtifactReport) -> str:
    images = [image for item in artifact.samples for image in item.detections]
    corner = max((image.largest_corner for image in images), default=0.0)
    score = max((image.largest_score for image in images), default=0.0)
    texts = [f"{corner:.2g} px, {score:.1e}"]
    if any(image.landmarks for image in images):
        texts.append(f"landmarks {max(image.largest_landmark for image in images):.2g} px")
    if any(image.attributes for image in images):
        texts.append(f"attributes {max(image.largest_attribute for image in images):.1e}")
    return ", ".join(texts)


def self_test_table(report: SelfTestReport, *, plain: bool) -> RenderableType:
    """The planted faults, each with the check that caught it."""
    rows = [
        [
            item.fault,
            item.artifact,
            item.verdict.value,
            item.check,
            "" if item.excess is None else f"{item.excess:.3g}",
            item.reason or item.message,
        ]
        for item in report.faults
    ]
    columns = ["planted fault", "artifact", "verdict", "caught by", ">times the limit", "what it said"]
    results = [f"{item.artifact} as it is: {_unchanged(item)}" for item in report.healthy]
    counts = ", ".join(f"{report.count(verdict)} {verdict.value}" for verdict in Verdict)
    results.append(f"self-test {'passed' if report.passed else 'FAILED'}: {counts}")
    return Group(table(columns, rows, plain=plain, keys=2), lines(*results, style="" if report.passed else "red"))


def _unchanged(healthy: HealthyResult) -> str:
    return "nothing found" if healthy.passed else f"{len(healthy.failures)} failures, so no fault was planted"
