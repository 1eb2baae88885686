"""The report of `sshtool verify` as one HTML page that holds everything it shows: no script, nothing from a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sshconvert.arrays import Pixels
from sshconvert.messages import count
from sshconvert.tasks.detection import THRESHOLD, DetectionTask
from sshconvert.tasks.tolerances import Profile
from sshtool.parity.layers import Divergence
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verify import Failure, SampleComparison, VerifyReport
from sshtool.report import histogram, overlay, summary
from sshtool.report.page import template
from sshtool.report.summary import Column

TEMPLATE: Final = "verify.html.j2"

# Failures beyond these are folded away.
MOST_FAILURES: Final = 20

# Of samples. A page with more pictures would be too large to be opened.
MOST_PICTURED: Final = 60

# Steps of colour by how much of the tolerance is used: upper ends, the last step being without one. Those up to PASSING
# are of what passes; more than half of the tolerance is worth a look.
STEPS: Final = (1e-3, 1e-2, 0.1, 0.5, 1.0, 10.0)
PASSING: Final = 4
LAST: Final = len(STEPS)
NO_STEP: Final = -1


@dataclass(frozen=True)
class Cell:
    """A cell of a heat table: the figure, what is below it, its step of colour, and whether it passes, if it may."""

    text: str
    detail: str = ""
    step: int = NO_STEP
    passed: bool | None = None


@dataclass(frozen=True)
class Row:
    """A row of a heat table. `detail` stands below its name."""

    name: str
    cells: tuple[Cell, ...]
    detail: str = ""


def render_html(report: VerifyReport, images: Mapping[str, Pixels], divergences: Sequence[Divergence] = ()) -> str:
    """The whole page; the same text for the same report. `images`: uint8 [N, H, W, 3], BGR, by sample name.

    Raises RuntimeUnavailableError without Jinja or Pillow.
    """
    artifacts = summary.columns(report)
    loaded = [column for column in artifacts if column.report]
    chosen = pictured(report)
    shown = [
        (sample, overlay.pictures(sample, images.get(sample.name), loaded))
        for sample in report.samples
        if sample.name in chosen
    ]
    filters: dict[str, Callable[..., str]] = {
        "count": count,
        "excess": summary.excess,
        "limit": lambda tolerance: summary.limit(tolerance.atol, tolerance.rtol),
        "matched": summary.matched,
        "sizes": summary.sizes,
    }
    return template(TEMPLATE, filters).render(
        report=report,
        headline=summary.headline(report),
        summary=summary.summary(report),
        columns=artifacts,
        styles=overlay.styles(loaded),
        outputs=[*(_output_row(output, artifacts) for output in report.outputs), _detections_row(artifacts)],
        samples=[
            Row(item.name, tuple(_sample_cell(column, item.name) for column in artifacts), item.purpose)
            for item in report.samples
        ],
        failures=report.failures[:MOST_FAILURES],
        more_failures=report.failures[MOST_FAILURES:],
        divergences=divergences,
        histograms=[(column, histogram.histograms(column, report.outputs)) for column in loaded],
        pictures=[(sample, made) for sample, made in shown if not all(picture.empty for picture in made)],
        empty=[(sample, made) for sample, made in shown if all(picture.empty for picture in made)],
        profiles=_profiles(artifacts),
        not_pictured=len(report.samples) - len(shown),
        threshold=THRESHOLD,
        steps=_legend(),
        plot=histogram,
    )


def pictured(report: VerifyReport) -> frozenset[str]:
    """The names of the samples with pictures: those on which something failed, then the first ones."""
    failing = (failure.sample for failure in report.failures if failure.sample)
    names = dict.fromkeys([*failing, *(sample.name for sample in report.samples)])
    return frozenset(list(names)[:MOST_PICTURED])


def _output_row(output: str, artifacts: Sequence[Column]) -> Row:
    return Row(output, tuple(_output_cell(column, output) for column in artifacts))


def _output_cell(column: Column, output: str) -> Cell:
    found = summary.worst(column, output)
    if found is None:
        return Cell("not compared" if column.report else "not loaded", "", LAST, passed=False)
    return _tensor_cell(found.tensor, f"on {found.sample}")


def _tensor_cell(tensor: TensorComparison, where: str) -> Cell:
    part = summary.share(tensor)
    used = where if part is None else f"{_part(part)} {tensor.atol:g}, {where}"
    return Cell(summary.figure(tensor), used, step(part, passed=tensor.passed), tensor.passed)


def _part(share: float) -> str:
    """A share of a tolerance: a percentage while it is one, a factor beyond."""
    return summary.times(share) if share > 1 else f"{100 * share:.2g} % of"


def step(share: float | None, *, passed: bool) -> int:
    """The step of colour for a share of the tolerance. What fails is never coloured as what passes."""
    if share is None:
        return LAST
    reached = next((number for number, end in enumerate(STEPS) if share <= end), LAST)
    return min(reached, PASSING) if passed else max(reached, PASSING + 1)


def _detections_row(artifacts: Sequence[Column]) -> Row:
    return Row("detections", tuple(map(_detections_cell, artifacts)), "matched with the original's")


def _detections_cell(column: Column) -> Cell:
    artifact = column.report
    if artifact is None:
        return Cell("not loaded", "", LAST, passed=False)
    failed = any(failure.check in DetectionTask.checks for failure in column.failures)
    detail = f"{artifact.missing} missing, {artifact.extra} extra, {artifact.near_threshold} near the threshold"
    return Cell(summary.matched(artifact), detail, LAST if failed else 0, not failed)


def _sample_cell(column: Column, sample: str) -> Cell:
    failures = [failure for failure in column.failures if failure.sample == sample]
    compared = column.on(sample)
    if compared is None:
        return _uncompared_cell(column, sample, failures)
    if compared.tensors:
        cell = _tensor_cell(max(compared.tensors, key=summary.severity), _matches(compared))
    else:  # the file computes detections alone
        cell = Cell(_matches(compared), step=0, passed=True)
    return cell if not failures else Cell(cell.text, cell.detail, max(cell.step, PASSING + 1), passed=False)


def _matches(compared: SampleComparison) -> str:
    if any(found.problem for found in compared.detections):
        return "no detections"
    matched = sum(found.matched for found in compared.detections)
    alone = sum(found.differing for found in compared.detections)
    return f"{count(matched, 'detection')} matched" + (f", {alone} not" if alone else "")


def _uncompared_cell(column: Column, sample: str, failures: Sequence[Failure]) -> Cell:
    if column.report is None:
        return Cell("not loaded", "", LAST, passed=False)
    if failures:
        return Cell("could not be run", "", LAST, passed=False)
    return Cell("left out" if sample in column.report.skipped else "not compared")


def _profiles(artifacts: Sequence[Column]) -> tuple[Profile, ...]:
    """The profiles in use, each once."""
    return tuple({column.report.profile.name: column.report.profile for column in artifacts if column.report}.values())


def _legend() -> list[tuple[int, str]]:
    """The steps of colour in words."""
    ends = [f"up to {100 * end:g} %" if end <= 1 else f"up to {end:g} times" for end in STEPS]
    return [*enumerate(ends), (LAST, f"more than {max(STEPS):g} times, or no figure")]
