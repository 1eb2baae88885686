"""The report of `sshtool verify` as Markdown, for the summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sshconvert.tasks.tolerances import Profile
from sshtool.parity.verify import ArtifactReport, SampleReport, VerifyReport
from sshtool.report.markup import escape
from sshtool.report.summary import (
    BEYOND,
    BY_DISTANCE,
    COST,
    Column,
    allowed,
    by_profile,
    candidates,
    columns,
    cost_of_detections,
    cost_of_output,
    costs,
    distance,
    distance_of,
    excess,
    farthest,
    figure,
    figure_names,
    headline,
    limit,
    matched,
    notes,
    sizes,
    summary,
    times,
    worst,
)

# The number of listed failures. The summary of a GitHub job is limited to 1 MiB.
MOST_FAILURES: Final = 50


def render_markdown(report: VerifyReport) -> str:
    """Render the document: the verdict, the evidence, then the details."""
    artifacts = columns(report)
    weights = report.weights or "of unknown origin"
    blocks = [
        f"## {'✅' if report.passed else '❌'} {headline(report)}",
        *filter(None, [escape(distance(report))]),
        f"**{escape(report.model)}**, weights {escape(weights)}. {escape(summary(report))}",
        *_comparison(report, artifacts),
        *_failures(report),
        *_cost(report),
        *_notes(report),
        *_details(report, artifacts),
        escape(BEYOND),
    ]
    return "\n\n".join(blocks) + "\n"


def _comparison(report: VerifyReport, artifacts: Sequence[Column]) -> Iterable[str]:
    if not artifacts:
        return
    rows = [[output, *(_difference(column, output) for column in artifacts)] for output in report.outputs]
    if report.yardsticks:
        rows.append(["tolerance", *(allowed(column.report, report) if column.report else "" for column in artifacts)])
    if names := figure_names(report):
        rows += [[name, *(_figure(column, name) for column in artifacts)] for name in names]
    else:
        rows += [
            ["detections matched", *(matched(column.report) if column.report else "" for column in artifacts)],
            ["missing, extra, near the threshold, open", *map(_stray, artifacts)],
        ]
        if any(map(candidates, report.artifacts)):
            rows.append(["candidates", *(candidates(column.report) if column.report else "" for column in artifacts)])
    rows.append(["verdict", *("passed" if column.passed else "❌ failed" for column in artifacts)])
    head = f"Times as far as {report.yardsticks[0].source}, largest difference" if report.yardsticks else ""
    yield _table([head or "Largest difference", *(column.label for column in artifacts)], rows)
    sentences = [(artifact.label, distance_of(artifact, report)) for artifact in report.artifacts]
    if len(sentences) > 1 and any(sentence for _, sentence in sentences):
        yield "\n".join(f"- **{escape(label)}**: {escape(sentence)}" for label, sentence in sentences if sentence)


def _difference(column: Column, output: str) -> str:
    largest = worst(column, output)
    if largest is None:
        return "❌ not compared"
    factor = farthest(column, output)
    text = figure(largest.tensor) if factor is None else f"{times(factor)}, {figure(largest.tensor)}"
    return f"{'' if largest.tensor.passed else '❌ '}{text}"


def _figure(column: Column, name: str) -> str:
    failed = any(failure.check == name for failure in column.failures)
    return f"{'❌ ' if failed else ''}{column.report.figures.get(name, '')}" if column.report else ""


def _stray(column: Column) -> str:
    artifact = column.report
    if artifact is None:
        return ""
    return f"{artifact.missing}, {artifact.extra}, {artifact.near_threshold}, {artifact.open}"


def _failures(report: VerifyReport) -> Iterable[str]:
    if not report.failures:
        return
    yield "### Failures, the worst first"
    shown = report.failures[:MOST_FAILURES]
    rows = ([item.artifact, item.check, item.sample, item.message, excess(item)] for item in shown)
    yield _table(["Artifact", "Check", "Sample", "What is wrong", "How far"], rows)
    if len(report.failures) > len(shown):
        yield f"… and {len(report.failures) - len(shown)} more."


def _cost(report: VerifyReport) -> Iterable[str]:
    """The differences from the unrounded network, which are information."""
    rounded = [artifact for artifact in report.artifacts if costs(artifact)]
    if not rounded:
        return
    yield "### Cost of the precision"
    yield escape(COST)
    rows = [[output, *(cost_of_output(artifact, output) for artifact in rounded)] for output in report.outputs]
    if any(detections := [cost_of_detections(costs(artifact)) for artifact in rounded]):
        rows.append(["detections", *detections])
    yield _table(["Largest difference, of the output's range", *(artifact.label for artifact in rounded)], rows)


def _notes(report: VerifyReport) -> Iterable[str]:
    if noted := notes(report):
        yield "### Notes"
        yield "\n".join(f"- {escape(note)}" for note in noted)


def _details(report: VerifyReport, artifacts: Sequence[Column]) -> Iterable[str]:
    compared = [column.report for column in artifacts if column.report]
    profiles = {artifact.profile.name: artifact.profile for artifact in compared}
    yield "<details><summary>Artifacts, tolerances, samples and environment</summary>"
    yield _table(["Artifact", "Path", "Runtime", "Input", "SHA-256"], map(_artifact, compared))
    yield _table(
        ["Profile", "Elements", "Detections", "Near a threshold", "Corners", "Why"],
        (_profile(profile, decides=profile.name in by_profile(report)) for profile in profiles.values()),
    )
    results = "Results" if figure_names(report) else "Detections"
    yield _table(["Sample", "Shape", results, "What for"], map(_sample, report.samples))
    yield _table(["Environment", ""], report.environment.items())
    yield "</details>"


def _artifact(artifact: ArtifactReport) -> Sequence[str]:
    return (
        artifact.label,
        str(artifact.path),
        f"{artifact.runtime} on {artifact.settings.device}",
        f"{sizes(artifact.declaration.input_shape)}, {artifact.declaration.color_order}",
        " ".join(f"{name} {digest}" for name, digest in artifact.files.items()),
    )


def _profile(profile: Profile, *, decides: bool) -> Sequence[str]:
    return (
        profile.name,
        limit(profile.tensors.atol, profile.tensors.rtol) if decides else BY_DISTANCE,
        f"{100 * profile.matched:g} % matched at an overlap of {profile.overlap:g}",
        f"{profile.excused.few} on an image, or {100 * profile.excused.share:g} %",
        f"within {profile.corner:g} pixels",
        profile.reason if decides else "",
    )


def _sample(sample: SampleReport) -> Sequence[str]:
    results = "; ".join(sample.words) or ", ".join(str(len(boxes)) for boxes in sample.detections)
    return sample.name, sizes(sample.shape), results, sample.purpose


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell if cell == '---' else escape(cell) for cell in line)} |" for line in lines)
