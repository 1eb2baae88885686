"""The verdict, the artifacts and the largest differences of a verification, in words for all reports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sshconvert.messages import count
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verify import ArtifactReport, Failure, SampleComparison, VerifyReport


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
        compared = self.report.samples if self.report else ()
        return next((item for item in compared if item.sample == sample), None)


@dataclass(frozen=True)
class Worst:
    """The comparison with the largest difference, and its sample."""

    sample: str
    tensor: TensorComparison


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
        return f"{scope}: all within the tolerance{excused(report)}." if report.passed else f"{scope}."
    failing = sum(not column.passed for column in artifacts)
    return f"{scope}: {failing} failed, {count(len(report.failures), 'failure')} in all."


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
