"""The report of `sshtool verify` as one self-contained HTML page without a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sshconvert.arrays import Pixels
from sshconvert.messages import count
from sshconvert.tasks.detection import THRESHOLD, DetectionTask
from sshconvert.tasks.tolerances import FACTOR, MEAN_FACTOR, UNIT
from sshtool.parity.layers import Divergence
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verify import STRICT, Failure, SampleComparison, VerifyReport
from sshtool.report import histogram, overlay, summary
from sshtool.report.page import template
from sshtool.report.summary import Column

TEMPLATE: Final = "verify.html.j2"

# The number of failures that are not folded.
MOST_FAILURES: Final = 20

# The number of samples with pictures, which bounds the size of the page.
MOST_PICTURED: Final = 60

# The upper ends of the colour steps, as shares of the tolerance. The last step has no upper end. Passing tensors have
# the steps up to PASSING, of one calm hue.
STEPS: Final = (1e-3, 1e-2, 0.1, 0.5, 1.0, 10.0)
PASSING: Final = 4
LAST: Final = len(STEPS)
NO_STEP: Final = -1


@dataclass(frozen=True)
class Cell:
    """A cell of a heat table: the figure, the line below it, the colour step, and whether it passes (None: neither)."""

    text: str
    detail: str = ""
    step: int = NO_STEP
    passed: bool | None = None


@dataclass(frozen=True)
class Row:
    """A row of a heat table. `detail` is the line below its name."""

    name: str
    cells: tuple[Cell, ...]
    detail: str = ""


def render_html(report: VerifyReport, images: Mapping[str, Pixels], divergences: Sequence[Divergence] = ()) -> str:
    """Render the page. The same report gives the same text. `images` holds uint8 [N, H, W, 3], BGR, by sample name.

    Raises RuntimeUnavailableError without Jinja or Pillow.
    """
    artifacts = summary.columns(report)
    loaded = [column for column in artifacts if column.report]
    names = summary.figure_names(report)
    results = summary.has_results(report) and not names
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
        distance=summary.distance(report),
        distances={artifact.label: summary.distance_of(artifact, report) for artifact in report.artifacts},
        candidates={artifact.label: summary.candidates(artifact) for artifact in report.artifacts},
        judged_by=summary.BY_DISTANCE,
        notes=summary.notes(report),
        beyond=summary.BEYOND,
        columns=artifacts,
        rounded=[column for column in loaded if column.report and summary.costs(column.report)],
        costs=_cost_rows(report, loaded, detections=results),
        cost_meaning=summary.COST,
        styles=overlay.styles(loaded),
        outputs=[
            *(Row(output, tuple(_output_cell(column, output) for column in artifacts)) for output in report.outputs),
            *([_tolerance_row(report, artifacts)] if report.yardsticks else []),
            *(
                [Row("detections", tuple(map(_detections_cell, artifacts)), "matched with the original's")]
                if results
                else []
            ),
            *(Row(name, tuple(_figure_cell(column, name) for column in artifacts), "all samples") for name in names),
        ],
        samples=[
            Row(item.name, tuple(_sample_cell(column, item.name) for column in artifacts), item.purpose)
            for item in report.samples
        ],
        failures=report.failures[:MOST_FAILURES],
        more_failures=report.failures[MOST_FAILURES:],
        divergences=divergences,
        histograms=[(column, histogram.histograms(column, report.outputs)) for column in loaded],
        pictures=[(sample, drawn) for sample, drawn in shown if not all(picture.empty for picture in drawn)],
        empty=[(sample, drawn) for sample, drawn in shown if all(picture.empty for picture in drawn)],
        profiles={column.report.profile.name: column.report.profile for column in loaded if column.report}.values(),
        not_pictured=len(report.samples) - len(shown),
        by_distance=_by_distance(report),
        by_profile=summary.by_profile(report),
        exact=STRICT,
        factor=FACTOR,
        mean_factor=MEAN_FACTOR,
        unit=UNIT,
        threshold=THRESHOLD,
        figure_names=names,
        steps=_legend(),
        plot=histogram,
    )


def pictured(report: VerifyReport) -> frozenset[str]:
    """The names of the samples with pictures: first those with failures, then the others in their order.

    Tensors have no pictures.
    """
    if any(artifact.declaration.tensors for artifact in report.artifacts):
        return frozenset()
    failing = (failure.sample for failure in report.failures if failure.sample)
    names = dict.fromkeys([*failing, *(sample.name for sample in report.samples)])
    return frozenset(list(names)[:MOST_PICTURED])


def _by_distance(report: VerifyReport) -> str:
    """The original whose distance is the measure; "" if no artifact is judged by it."""
    measured = any(summary.allowed(artifact, report) for artifact in report.artifacts)
    return summary.original(report) if measured else ""


def _tolerance_row(report: VerifyReport, columns: Sequence[Column]) -> Row:
    texts = [summary.allowed(column.report, report) if column.report else "" for column in columns]
    return Row(
        "tolerance",
        tuple(_split(text, " the ") if text else Cell("by the profile") for text in texts),
        "of each output",
    )


def _cost_rows(report: VerifyReport, columns: Sequence[Column], *, detections: bool) -> list[Row]:
    """The differences from the unrounded network, by output and in detections, without a mark of success or failure."""
    rounded = [column.report for column in columns if column.report and summary.costs(column.report)]
    rows = [
        Row(output, tuple(Cell(summary.cost_of_output(artifact, output)) for artifact in rounded))
        for output in report.outputs
    ]
    if detections and rounded:
        texts = [summary.cost_of_detections(summary.costs(artifact)) for artifact in rounded]
        rows.append(Row("detections", tuple(_split(text) for text in texts), "of the unrounded network"))
    return rows


def _split(text: str, separator: str = ", ") -> Cell:
    """The figure and the line below it."""
    figure, found, detail = text.partition(separator)
    return Cell(figure, f"{found}{detail}".removeprefix(", ").strip())


def _output_cell(column: Column, output: str) -> Cell:
    worst = summary.worst(column, output)
    if worst is None:
        return Cell("not compared" if column.report else "not loaded", "", LAST, passed=False)
    cell = _tensor_cell(worst.tensor, f"on {worst.sample}")
    factor = summary.farthest(column, output)
    if factor is None or worst.tensor.largest is None:
        return cell
    return replace(cell, text=summary.times(factor), detail=f"difference {cell.text}, {cell.detail}")


def _tensor_cell(tensor: TensorComparison, where: str) -> Cell:
    share = summary.share(tensor)
    detail = where if share is None else ", ".join(filter(None, (f"{_share(share)} {tensor.atol:.2g}", where)))
    return Cell(summary.figure(tensor), detail, step(share, passed=tensor.passed), tensor.passed)


def _share(share: float) -> str:
    """A share of a tolerance: a percentage up to 1, a factor above."""
    return summary.times(share) if share > 1 else f"{100 * share:.2g} % of"


def step(share: float | None, *, passed: bool) -> int:
    """The colour step of a share of the tolerance. Passing and failing shares have different steps."""
    if share is None:
        return LAST
    reached = next((number for number, end in enumerate(STEPS) if share <= end), LAST)
    return min(reached, PASSING) if passed else max(reached, PASSING + 1)


def _detections_cell(column: Column) -> Cell:
    artifact = column.report
    if artifact is None:
        return Cell("not loaded", "", LAST, passed=False)
    failed = any(failure.check in DetectionTask.checks for failure in column.failures)
    parts = [f"{artifact.missing} missing, {artifact.extra} extra, {artifact.near_threshold} near the threshold"]
    parts += [f"candidates: {text}" for text in (summary.candidates(artifact),) if text]
    return Cell(summary.matched(artifact), "; ".join(parts), LAST if failed else 0, not failed)


def _figure_cell(column: Column, name: str) -> Cell:
    if column.report is None:
        return Cell("not loaded", "", LAST, passed=False)
    failed = any(failure.check == name for failure in column.failures)
    return Cell(column.report.figures.get(name, "not compared"), "", LAST if failed else 0, not failed)


def _sample_cell(column: Column, sample: str) -> Cell:
    failures = [failure for failure in column.failures if failure.sample == sample]
    compared = column.on(sample)
    if compared is None:
        return _uncompared_cell(column, sample, failures)
    if compared.tensors:
        words = "" if compared.results else _matches(compared)
        cell = _tensor_cell(max(compared.tensors, key=summary.severity), words)
    else:  # the file computes detections alone
        cell = Cell(_matches(compared), step=0, passed=True)
    return cell if not failures else Cell(cell.text, cell.detail, max(cell.step, PASSING + 1), passed=False)


def _matches(compared: SampleComparison) -> str:
    if any(image.problem for image in compared.detections):
        return "no detections"
    matched = sum(image.matched for image in compared.detections)
    unmatched = sum(image.differing for image in compared.detections)
    text = f"{count(matched, 'detection')} matched" + (f", {unmatched} not" if unmatched else "")
    return "; ".join(filter(None, (text, summary.candidates_on(compared.detections))))


def _uncompared_cell(column: Column, sample: str, failures: Sequence[Failure]) -> Cell:
    if column.report is None:
        return Cell("not loaded", "", LAST, passed=False)
    if failures:
        return Cell("could not be run", "", LAST, passed=False)
    if cost := column.cost_on(sample):
        detail = ", ".join(filter(None, ("cost of the precision", summary.cost_of_detections([cost]))))
        return Cell(summary.cost_of_tensors(cost.tensors), detail) if cost.tensors else Cell(detail)
    if column.report.rounded and sample not in column.report.skipped:
        return Cell("not run", "no answer with the same rounded weights")
    return Cell("left out" if sample in column.report.skipped else "not compared")


def _legend() -> list[tuple[int, str]]:
    """The colour steps in words."""
    ends = [f"up to {100 * end:g} %" if end <= 1 else f"up to {end:g} times" for end in STEPS]
    return [*enumerate(ends), (LAST, f"more than {max(STEPS):g} times, or no figure")]
