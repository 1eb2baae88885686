"""The test of the comparison itself: each known fault is planted in a copy of an artifact and must be caught.

The unchanged artifact must pass, because a comparison that always fails would catch every fault too.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sshconvert.contract import Declaration
from sshconvert.editable import NotThereError
from sshconvert.errors import UsageError
from sshconvert.files import output_errors, scratch_folder
from sshconvert.formats.registry import FORMATS, artifact_files, format_key, format_of, known_format
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.reading import is_file
from sshconvert.tasks.faults import Fault, Stage
from sshconvert.tasks.tolerances import PROFILES, Yardstick
from sshtool.candidates import Candidate, labelled
from sshtool.parity.faults import faults_of
from sshtool.parity.reference import Answer, Reference
from sshtool.parity.verify import ArtifactReport, ConvertAgain, Failure, Rules, VerifyReport, verify
from sshtool.progress import Progress, silent


class Verdict(StrEnum):
    """The outcome of planting a fault."""

    CAUGHT = "caught"
    MISSED = "missed"
    WITHOUT_EFFECT = "without effect"
    NOT_PLANTED = "not planted"


@dataclass(frozen=True)
class FaultResult:
    """A fault in an artifact.

    `check`, `message` and `excess` are those of the worst failure that it caused (see `Failure`). `reason` says why the
    fault was not planted or has no effect.
    """

    fault: str
    artifact: str
    verdict: Verdict
    check: str = ""
    message: str = ""
    excess: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class HealthyResult:
    """The unchanged artifact. If it fails, no faults are planted, because they could not be told from its failures."""

    artifact: str
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True)
class SelfTestReport:
    """The results of all faults in all artifacts that can be edited."""

    model: str
    reference: str
    passed: bool
    healthy: tuple[HealthyResult, ...]
    faults: tuple[FaultResult, ...]

    def count(self, verdict: Verdict) -> int:
        return sum(result.verdict is verdict for result in self.faults)


def self_test(
    model: ModelSpec,
    reference: Reference,
    candidates: Sequence[Candidate],
    rules: Rules = Rules(),  # noqa: B008  # frozen
    *,
    faults: Sequence[Fault] | None = None,
    verified: VerifyReport | None = None,
    convert_again: ConvertAgain = lambda _candidate, _declaration: None,
    progress: Progress = silent,
) -> SelfTestReport:
    """Plant the faults in every artifact that can be edited.

    The self-test passes if the unchanged artifacts have no failures and every fault with an effect is caught.

    `verified` is the thorough report of all candidates; without it, the chosen artifacts are verified first. Raises
    UsageError if there is no artifact to plant faults in, and what `verify` raises.
    """
    chosen = _editable(candidates)
    if verified is None:
        thorough = replace(rules, thorough=True)
        verified = verify(model, reference, chosen, thorough, convert_again=convert_again, progress=progress)
        candidates = chosen
    healthy: list[HealthyResult] = []
    results: list[FaultResult] = []
    for label, candidate in labelled(candidates).items():
        if candidate in chosen:
            healthy.append(HealthyResult(label, tuple(item for item in verified.failures if item.artifact == label)))
        if candidate in chosen and healthy[-1].passed:
            artifact = next(item for item in verified.artifacts if item.label == label)
            tested = _SelfTest(model, reference, candidate, artifact, rules, convert_again, progress)
            results += tested.plant_all(faults_of(model, artifact.profile.name) if faults is None else faults)
    verdicts = {result.verdict for result in results}
    return SelfTestReport(
        model=model.name,
        reference=reference.source,
        passed=Verdict.CAUGHT in verdicts and Verdict.MISSED not in verdicts and all(item.passed for item in healthy),
        healthy=tuple(healthy),
        faults=tuple(results),
    )


@dataclass
class _SelfTest:
    """The self-test of one artifact."""

    model: ModelSpec
    reference: Reference
    candidate: Candidate
    artifact: ArtifactReport
    rules: Rules
    convert_again: ConvertAgain
    progress: Progress

    def plant_all(self, faults: Sequence[Fault]) -> Iterator[FaultResult]:
        for index, fault in enumerate(faults):
            self.progress(f"{self.artifact.label}: {fault.name}", index, len(faults))
            with scratch_folder() as folder:  # one copy at a time: each is as large as the artifact
                yield self.plant(fault, folder)

    def plant(self, fault: Fault, folder: Path) -> FaultResult:
        try:
            copy = self.copy_with(fault, folder)
            if fault.decode is None and _same_bytes(self.candidate.path, copy):
                reason = "with these weights, it does not change the file"
                return FaultResult(fault.name, self.artifact.label, Verdict.WITHOUT_EFFECT, reason=reason)
            failures = self.failures_of(fault, replace(self.candidate, path=copy), folder)
        except NotThereError as error:
            return FaultResult(fault.name, self.artifact.label, Verdict.NOT_PLANTED, reason=str(error))
        if not failures and fault.decode is not None and not self.changes_results(fault):
            reason = "it does not change the results on these samples"
            return FaultResult(fault.name, self.artifact.label, Verdict.WITHOUT_EFFECT, reason=reason)
        if not failures:
            return FaultResult(fault.name, self.artifact.label, Verdict.MISSED)
        worst = failures[0]
        message = worst.message.replace(f"{folder}{os.sep}", "")  # the random name of the scratch folder
        return FaultResult(fault.name, self.artifact.label, Verdict.CAUGHT, worst.check, message, worst.excess)

    def copy_with(self, fault: Fault, folder: Path) -> Path:
        """Copy the artifact into a folder of the same name, which states its precision, and plant the fault.

        Returns the artifact itself for a fault in the decoding.
        """
        if fault.plant is None and not fault.file_of:
            if self.artifact.declaration.faces:
                raise NotThereError("the file decodes its outputs itself")
            return self.candidate.path
        if fault.stage is Stage.INSIDE and not self.artifact.declaration.faces:
            raise NotThereError("the file gives heads, which sshtool decodes")
        original = self.candidate.path.resolve()
        source = original
        if fault.file_of:
            if self.candidate.profile != Precision.FP32.value:
                raise NotThereError("the artifact is not in the FP32 folder")
            source = original.parent.parent / fault.file_of / original.name
            if not is_file(source):
                raise NotThereError(f"there is no {fault.file_of} file beside the artifact")
        return _copy(fault, source, folder / original.parent.name)

    def failures_of(self, fault: Fault, copy: Candidate, folder: Path) -> tuple[Failure, ...]:
        rules = replace(self.rules, thorough=False, decode=fault.decode, rounded=self.rounded)
        convert_again = self.planting(fault, folder) if fault.at_other_size else self.convert_again
        for part in self.references(fault):
            report = verify(self.model, part, [copy], rules, convert_again=convert_again)
            if report.failures:
                return report.failures
        return ()

    def references(self, fault: Fault) -> Iterator[Reference]:
        """Yield the answers that can show a fault, the most likely first.

        Tensors show a fault in the file, and the comparison stops at the first sample that fails. Only samples with
        results show a fault in the decoding. The comparison judges results after all samples, so each such sample is
        a reference of its own.
        """
        if fault.at_other_size:
            other = self.reference.other_size()
            if other is None:
                raise NotThereError(f"{self.reference.source} takes one size only")
            yield _Part(self.reference, (), other)
        elif fault.decode is None:
            yield self.reference
        else:
            for answer in self.fullest_first:
                yield _Part(self.reference, (answer,), None)

    def changes_results(self, fault: Fault) -> bool:
        """Return whether a fault in the decoding changes the original's results on a sample."""
        assert fault.decode is not None  # the caller checks it
        task, other = self.model.task, self.reference.other_size() if fault.at_other_size else None
        for answer in [other] if other is not None else self.fullest_first:
            outputs, size = answer.outputs, answer.sample.image_size
            if not _same_results(task.decode(outputs, size), fault.decode(task, outputs, size)):
                return True
        return False

    @cached_property
    def fullest_first(self) -> list[Answer]:
        """The answers with results, most results first."""
        answers = self.reference.answers(*self.artifact.declaration.sample_size(self.model))
        return sorted(filter(self.count_results, answers), key=self.count_results, reverse=True)

    def count_results(self, answer: Answer) -> int:
        task = self.model.task
        return task.count(task.decode(answer.outputs, answer.sample.image_size))

    @cached_property
    def rounded(self) -> Reference | None:
        """The answers for the rounding of the unchanged artifact: a fault may be in what a copy declares."""
        if not self.artifact.rounded:
            return None
        left_out = self.model.task.left_out(self.artifact.profile)
        return self.reference.rounded(self.candidate.path, self.artifact.declaration.precision, left_out)

    def planting(self, fault: Fault, folder: Path) -> ConvertAgain:
        """Return a function that converts again and plants the fault in the new conversion."""

        def convert_and_plant(candidate: Candidate, declaration: Declaration) -> Path:
            healthy = self.convert_again(candidate, declaration)
            if healthy is None:
                raise NotThereError("the file takes one size only, and no checkpoint is available to convert again")
            return _copy(fault, healthy, folder / "again")

        return convert_and_plant


class _Part(Reference):
    """A part of a reference's answers."""

    def __init__(self, reference: Reference, answers: Sequence[Answer], other: Answer | None) -> None:
        self.source, self.weights, self.note = reference.source, reference.weights, reference.note
        self._reference, self._answers, self._other = reference, answers, other

    def answers(self, *size: int) -> Sequence[Answer]:
        return self._answers

    def other_size(self) -> Answer | None:
        return self._other

    def yardstick(self, *size: int) -> Yardstick | None:
        return self._reference.yardstick(*size)

    def rounded(self, artifact: Path, precision: str, left_out: Container[str] = ()) -> Reference | None:
        return self._reference.rounded(artifact, precision, left_out)


def _editable(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the artifacts that can be edited by format, each from the highest precision to the lowest."""
    precisions = list(PROFILES)

    def rank(candidate: Candidate) -> tuple[str, int]:
        return format_key(candidate.path), precisions.index(candidate.profile) if candidate.profile in precisions else 0

    formats = ((candidate, known_format(candidate.path)) for candidate in candidates)
    chosen = [candidate for candidate, known in formats if known is not None and known.is_editable]
    if not chosen:
        editable = " or ".join(file_format.suffix for file_format in FORMATS.values() if file_format.is_editable)
        raise UsageError(f"--self-test: there is no artifact to plant faults in; give one that is {editable}")
    return sorted(chosen, key=rank)


def _copy(fault: Fault, source: Path, folder: Path) -> Path:
    """Copy an artifact into a folder, and plant a fault in the copy."""
    copy = folder / source.name
    with output_errors(folder):
        folder.mkdir()
        for file in artifact_files(source):
            shutil.copyfile(file, folder / file.name)
        if fault.plant is not None:
            edited = format_of(copy).edit(copy)
            fault.plant(edited)
            edited.save()
    return copy


def _same_results(one: Any, other: Any) -> bool:
    """Return whether results of a task, lists of dataclasses of arrays, are identical."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same_results, one, other))
    if is_dataclass(one):
        return all(_same_results(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


def _same_bytes(one: Path, other: Path) -> bool:
    pairs = zip(artifact_files(one), artifact_files(other), strict=True)
    return all(filecmp.cmp(first, second, shallow=False) for first, second in pairs)
