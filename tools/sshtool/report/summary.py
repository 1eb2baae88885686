"""The verdict, the artifacts and the largest differences of a verification, in words for all reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sshconvert.messages import count
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.tolerances import UNIT
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verify import FEW_STEPS, ArtifactReport, Failure, SampleComparison, VerifyReport
from sshtool.runtimes.exact import SINGLE

# What the comparison cannot exclude, for the end of a report.
BEYOND: Final = (
    "No comparison of outputs can rule out a file that recognises these samples and answers all other images "
    "differently. To exclude that, compare on images that the file cannot know: --images takes your own, and --seed "
    "draws new ones."
)
# What the table of the cost of rounded weights shows.
COST: Final = (
    "An artifact with rounded weights is judged against the network with the same rounded weights. Its differences "
    "from the network with unrounded weights are the cost of the precision: a choice, not a fault. They do not affect "
    "the verdict."
)
# The tolerance of elements in words, where no profile gives it.
BY_DISTANCE: Final = "by the distance from the exact result"
# If less than this share of the candidates is decided on every sample, the detections prove little.
LEAST_DECIDED: Final = 0.5


@dataclass(frozen=True)
class Column:
    """An artifact with its failures. `report` is None if it could not be loaded."""

    label: str
    report: ArtifactReport | None
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return self.report is not None and self.report.passed

    def on(self, sample: str) -> SampleComparison | None:
        """The comparison on a sample; None if there is none."""
        return _on(self.report.samples if self.report else (), sample)

    def cost_on(self, sample: str) -> SampleComparison | None:
        """The comparison with the unrounded network on a sample; None for weights that are not rounded."""
        return _on(costs(self.report) if self.report else (), sample)


@dataclass(frozen=True)
class Worst:
    """The comparison with the largest difference, and its sample."""

    sample: str
    tensor: TensorComparison


def _on(compared: Iterable[SampleComparison], sample: str) -> SampleComparison | None:
    return next((item for item in compared if item.sample == sample), None)


def columns(report: VerifyReport) -> tuple[Column, ...]:
    """All artifacts: first those that were compared, in their order, then those with failures only."""
    compared = {artifact.label: artifact for artifact in report.artifacts}
    labels = dict.fromkeys([*compared, *sorted(failure.artifact for failure in report.failures)])
    return tuple(
        Column(label, compared.get(label), tuple(item for item in report.failures if item.artifact == label))
        for label in labels
    )


def headline(report: VerifyReport) -> str:
    """The verdict as a headline."""
    noun = "detector" if has_results(report) else "network"
    if report.passed:
        return f"The same {noun}"
    return f"Not the same {noun}" if report.failures else "Nothing was compared"


def has_results(report: VerifyReport) -> bool:
    """Whether the report is of detections too. An artifact that was not loaded may have some."""
    samples = [sample for artifact in report.artifacts for sample in artifact.samples]
    return not samples or any(sample.detections for sample in samples)


def figure_names(report: VerifyReport) -> tuple[str, ...]:
    """The names of the checks of results that are no detections, over all artifacts."""
    return tuple(dict.fromkeys(name for artifact in report.artifacts for name in artifact.figures))


def summary(report: VerifyReport) -> str:
    """The verdict as a sentence."""
    artifacts, samples = columns(report), len(report.samples)
    scope = f"{count(len(artifacts), 'artifact')} compared with {report.reference} on {count(samples, 'sample')}"
    if not report.failures:
        return f"{scope}: all within the tolerances{excused(report)}." if report.passed else f"{scope}."
    failing = sum(not column.passed for column in artifacts)
    return f"{scope}: {failing} failed, {count(len(report.failures), 'failure')} in all."


def distance(report: VerifyReport) -> str:
    """How far the worst artifact is from the exact result, as a sentence; "" without an exact result."""
    measured = [artifact for artifact in report.artifacts if artifact.times is not None]
    if not measured:
        return ""
    farthest = max(measured, key=lambda artifact: artifact.times or 0.0)
    sentence = distance_of(farthest, report)
    return sentence if len(report.artifacts) == 1 else f"{sentence} The farthest artifact is {farthest.label}."


def distance_of(artifact: ArtifactReport, report: VerifyReport) -> str:
    """How far an artifact is from the exact result, as a sentence; "" without an exact result.

    Where the original is nearer than the least measured distance (`UNIT`), the sentence names that as its measure.
    """
    tensors = [tensor for item in artifact.samples for tensor in item.tensors if tensor.times is not None]
    if artifact.times is None or not report.yardsticks or not tensors:
        return ""
    worst_tensor = max(tensors, key=lambda tensor: tensor.times or 0.0)
    given = "Given the same rounded weights, " if artifact.rounded else ""
    limit_text = "" if worst_tensor.times_limit is None else f" ({worst_tensor.times_limit:g} allowed)"
    rounded = float(f"{artifact.times:.2g}")
    if rounded < 1:
        measured = [_is_measure(report, tensor.output) for tensor in tensors]
        text = "nearer to the exact result than" if all(measured) else "no farther from the exact result than"
        end = "" if all(measured) else f" or {FEW_STEPS}"
        return _capital(f"{given}{text} {original(report)}{end}.")
    measure = original(report) if _is_measure(report, worst_tensor.output) else FEW_STEPS
    at_most = "at most" if artifact.times <= (worst_tensor.times_limit or math.inf) else "up to"
    factor = "as far" if rounded == 1 else f"{times(artifact.times)} as far"
    return _capital(f"{given}{at_most} {factor} from the exact result as {measure}{limit_text}.")


def original(report: VerifyReport) -> str:
    """The measure of a distance in words: MXNet itself, or the same network in float32."""
    source = report.yardsticks[0].source
    return source if source == SINGLE else f"{source} itself"


def _is_measure(report: VerifyReport, output: str) -> bool:
    """Whether the original's own distance is the measure of this output, at each size."""
    return all(yardstick.distances.get(output, 0.0) >= UNIT for yardstick in report.yardsticks)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def farthest(column: Column, output: str) -> float | None:
    """The largest distance of an output from the exact result, in units of the original's; None if not measured."""
    samples = column.report.samples if column.report else ()
    factors = [tensor.times for item in samples for tensor in item.tensors if tensor.output == output]
    return max((factor for factor in factors if factor is not None), default=None)


def allowed(artifact: ArtifactReport, report: VerifyReport) -> str:
    """The tolerance of an artifact that is judged by its distance from the exact result; "" for another."""
    limits = {tensor.times_limit for item in artifact.samples for tensor in item.tensors} - {None}
    return f"{max(filter(None, limits)):g} times the distance of {report.yardsticks[0].source}" if limits else ""


def by_profile(report: VerifyReport) -> frozenset[str]:
    """The names of the profiles whose tolerances of elements decide somewhere."""
    return frozenset(
        artifact.profile.name
        for artifact in report.artifacts
        if not allowed(artifact, report) or any(item.by_levels for item in artifact.cost)
    )


def candidates(artifact: ArtifactReport) -> str:
    """How many of the original's candidates rounding leaves alone, and how many it decides; "" if not determined."""
    if artifact.certain is None:
        return ""
    return _decided(artifact.certain, artifact.excluded, artifact.undecided)


def candidates_on(images: Iterable[DetectionComparison]) -> str:
    """As `candidates`, of the images of a sample; "" without a candidate."""
    decided = [image for image in images if image.certain is not None]
    sums = [sum(getattr(image, name) for image in decided) for name in ("certain", "excluded", "undecided")]
    return _decided(*sums) if any(sums) else ""


def _decided(certain: int, excluded: int, undecided: int) -> str:
    return f"{certain:,} certain, {excluded:,} excluded, {undecided:,} open"


def notes(report: VerifyReport) -> tuple[str, ...]:
    """The report's notes, and one for each artifact whose detections prove little."""
    return (*report.notes, *_weak(report))


def _weak(report: VerifyReport) -> Iterator[str]:
    for artifact in report.artifacts:
        images = [image for item in artifact.samples for image in item.detections if image.certain is not None]
        counts = [(image.certain or 0, image.excluded, image.undecided) for image in images]
        if (filled := [item for item in counts if sum(item)]) and all(
            certain + excluded < LEAST_DECIDED * (certain + excluded + undecided)
            for certain, excluded, undecided in filled
        ):
            yield (
                f"{artifact.label}: rounding decides more than half of the candidates on every sample, so the "
                "detections prove little; the verdict rests on the outputs"
            )


def costs(artifact: ArtifactReport) -> tuple[SampleComparison, ...]:
    """The comparisons of an artifact with the unrounded network; () for weights that are not rounded."""
    return tuple(item for item in artifact.cost if not item.by_levels)


def cost_of_output(artifact: ArtifactReport, output: str) -> str:
    """The largest difference of an output from the unrounded network's, as a part of the output's range."""
    return cost_of_tensors(tensor for item in costs(artifact) for tensor in item.tensors if tensor.output == output)


def cost_of_tensors(tensors: Iterable[TensorComparison]) -> str:
    """The largest of these differences, as a part of the output's range; "not comparable" without figures."""
    parts = [tensor.relative for tensor in tensors]
    known = [part for part in parts if part is not None]
    return f"{100 * max(known):.2g} %" if known and len(known) == len(parts) else "not comparable"


def cost_of_detections(compared: Iterable[SampleComparison]) -> str:
    """How many of the unrounded network's detections are there, missing and extra; "" without detections.

    Those that only one side has, of nearly equal scores or near a threshold, are counted apart.
    """
    images = [image for item in compared for image in item.detections]
    if not images or any(image.problem for image in images):
        return "not comparable" if images else ""
    matched = sum(image.matched for image in images)
    missing = sum(len(image.missing) for image in images)
    extra = sum(len(image.extra) for image in images)
    near = sum(len(image.near_threshold) + len(image.open) for image in images)
    text = f"{matched:,} of {matched + missing:,} matched, {missing:,} missing, {extra:,} extra"
    return f"{text}, {near:,} near a tie or a threshold" if near else text


def excused(report: VerifyReport) -> str:
    """The number of excused detections, as the end of a sentence; "" for none."""
    number = sum(artifact.near_threshold for artifact in report.artifacts)
    return f"; {count(number, 'detection')} so near a threshold that either side may lack them" if number else ""


def worst(column: Column, output: str) -> Worst | None:
    """The largest difference of an output over all samples; None if it was not compared."""
    samples = column.report.samples if column.report else ()
    tensors = [Worst(item.sample, tensor) for item in samples for tensor in item.tensors if tensor.output == output]
    return max(tensors, key=lambda item: severity(item.tensor), default=None)


def severity(tensor: TensorComparison) -> tuple[bool, bool, float]:
    """A sort key: tensors without figures are the worst, then failed ones, then those with larger differences."""
    return tensor.largest is None, not tensor.passed, tensor.largest or 0.0


def share(tensor: TensorComparison) -> float | None:
    """The largest difference in units of `atol`; None without figures.

    The contribution of `rtol` varies by element. Therefore the share of a passing tensor is at most 1, and that of a
    failing one is (the smallest `atol` that would pass) / `atol`, at least 1.
    """
    if tensor.largest is None or tensor.required_atol is None:
        return None
    if tensor.passed:
        return min(1.0, _ratio(tensor.largest, tensor.atol))
    return max(1.0, _ratio(tensor.required_atol, tensor.atol))


def _ratio(difference: float, atol: float) -> float:
    if atol:
        return difference / atol
    return math.inf if difference else 0.0


def figure(tensor: TensorComparison) -> str:
    """The largest difference, or the reason for its absence."""
    return tensor.problem or "not comparable" if tensor.largest is None else f"{tensor.largest:.2g}"


def limit(atol: float, rtol: float) -> str:
    """A tolerance as a formula."""
    return f"{atol:g} + {rtol:g} |expected|"


def excess(failure: Failure) -> str:
    """The size of a failure in units of its limit."""
    return "no figure" if failure.excess is None else f"{times(failure.excess)} the limit"


def times(factor: float) -> str:
    """A factor with two digits, and an exponent only below 1e-4 and from 1e6 on."""
    rounded = float(f"{factor:.2g}")
    return f"{rounded:,.0f} times" if 10 <= rounded < 1e6 else f"{rounded:.2g} times"


def matched(artifact: ArtifactReport) -> str:
    """The number of the original's detections that the artifact matches."""
    if any(image.problem for item in artifact.samples for image in item.detections):
        return "not comparable"
    return f"{artifact.matched} of {artifact.matched + artifact.missing}"


def sizes(shape: Iterable[int | None]) -> str:
    """A shape in words, with "any" for a dynamic size."""
    return " x ".join("any" if size is None else str(size) for size in shape)
