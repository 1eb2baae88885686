"""What all reports of `sshtool verify` share: the verdict, the artifacts, the largest differences, their wording."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sshconvert.messages import count
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verify import ArtifactReport, Failure, SampleComparison, VerifyReport


@dataclass(frozen=True)
class Column:
    """An artifact, with what is wrong with it. `report` is None where it could not even be loaded."""

    label: str
    report: ArtifactReport | None
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return self.report is not None and self.report.passed

    def on(self, sample: str) -> SampleComparison | None:
        """How it compares on that sample; None where it was not compared."""
        compared = self.report.samples if self.report else ()
        return next((item for item in compared if item.sample == sample), None)


@dataclass(frozen=True)
class Worst:
    """The comparison that is furthest off, and the sample that it belongs to."""

    sample: str
    tensor: TensorComparison


def columns(report: VerifyReport) -> tuple[Column, ...]:
    """All artifacts: first those that were compared, in their order, then those of which there are failures only."""
    compared = {artifact.label: artifact for artifact in report.artifacts}
    labels = dict.fromkeys([*compared, *sorted(failure.artifact for failure in report.failures)])
    return tuple(
        Column(label, compared.get(label), tuple(item for item in report.failures if item.artifact == label))
        for label in labels
    )


def headline(report: VerifyReport) -> str:
    """The verdict, in the fewest words."""
    if report.passed:
        return "The same detector"
    return "Not the same detector" if report.failures else "Nothing was compared"


def summary(report: VerifyReport) -> str:
    """The verdict as a sentence."""
    artifacts, samples = columns(report), len(report.samples)
    held = f"{count(len(artifacts), 'artifact')} held to {report.reference} on {count(samples, 'sample')}"
    if not report.failures:
        return f"{held}: all within the tolerance{excused(report)}." if report.passed else f"{held}."
    failing = sum(not column.passed for column in artifacts)
    return f"{held}: {failing} failed, {count(len(report.failures), 'failure')} in all."


def excused(report: VerifyReport) -> str:
    """How many detections are excused, as the end of a sentence; "" for none."""
    number = sum(artifact.near_threshold for artifact in report.artifacts)
    return f"; {count(number, 'detection')} so near a threshold that either side may lack them" if number else ""


def worst(column: Column, output: str) -> Worst | None:
    """Where an output differs most, over all samples; None where it was never compared."""
    compared = column.report.samples if column.report else ()
    found = [Worst(item.sample, tensor) for item in compared for tensor in item.tensors if tensor.output == output]
    return max(found, key=lambda item: severity(item.tensor), default=None)


def severity(tensor: TensorComparison) -> tuple[bool, bool, float]:
    """Orders comparisons: what has no figures is the worst, then what fails, then what differs most."""
    return tensor.largest is None, not tensor.passed, tensor.largest or 0.0


def share(tensor: TensorComparison) -> float | None:
    """The largest difference in units of `atol`; None where there are no figures.

    What `rtol` adds differs from element to element. So what passes uses 1 at most, and what fails uses what the
    smallest `atol` that would pass is to the present one.
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
    """The largest difference, or why there is none."""
    return tensor.problem or "not comparable" if tensor.largest is None else f"{tensor.largest:.2g}"


def limit(atol: float, rtol: float) -> str:
    """A tolerance as a formula."""
    return f"{atol:g} + {rtol:g} |expected|"


def excess(failure: Failure) -> str:
    """How far a failure is beyond what is allowed."""
    return "no figure" if failure.excess is None else f"{times(failure.excess)} the limit"


def times(factor: float) -> str:
    """A factor, to two digits, and without an exponent as long as that can be read."""
    rounded = float(f"{factor:.2g}")
    return f"{rounded:,.0f} times" if 10 <= rounded < 1e6 else f"{rounded:.2g} times"


def matched(artifact: ArtifactReport) -> str:
    """How many of the original's detections were found again."""
    if any(found.problem for item in artifact.samples for found in item.detections):
        return "not comparable"
    return f"{artifact.matched} of {artifact.matched + artifact.missing}"


def sizes(shape: Iterable[int | None]) -> str:
    """A shape; "any" where nothing is fixed."""
    return " x ".join("any" if size is None else str(size) for size in shape)
