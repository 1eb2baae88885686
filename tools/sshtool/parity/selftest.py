"""Whether the comparison sees faults: each known one is planted in a copy of an artifact, and has to be caught.

A proof that never fails proves nothing. Neither does one that fails always, so the healthy artifact has to pass.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from sshconvert.contract import Declaration
from sshconvert.editable import NotThereError
from sshconvert.errors import UsageError
from sshconvert.files import output_errors, scratch_folder
from sshconvert.formats.registry import FORMATS, artifact_files, format_of, known_format
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.reading import is_file
from sshconvert.tasks.faults import Fault
from sshconvert.tasks.tolerances import PROFILES
from sshtool.candidates import Candidate, labelled
from sshtool.parity.faults import faults_of
from sshtool.parity.reference import Answer, Reference
from sshtool.parity.verify import ArtifactReport, ConvertAgain, Failure, Rules, VerifyReport, verify
from sshtool.progress import Progress, silent


class Verdict(StrEnum):
    """What became of a fault."""

    CAUGHT = "caught"
    MISSED = "missed"
    WITHOUT_EFFECT = "without effect"
    NOT_PLANTED = "not planted"


@dataclass(frozen=True)
class FaultResult:
    """A fault in an artifact. `reason` says why there is neither "caught" nor "missed".

    `check`, `message` and `excess` are those of the worst failure that it caused; `excess` is None where nothing
    measures it, as in `Failure`.
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
    """An artifact as it is. Where it fails, faults cannot be told from what is wrong already, and none is planted."""

    artifact: str
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True)
class SelfTestReport:
    """Every fault in one artifact of each format."""

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
    """Plant every one of the `faults`, by default all, in one artifact of each format, that of the highest precision.

    It passes if the artifacts have no failure as they are, and every fault that has an effect is caught. `verified` is
    the thorough report of all the candidates; without it, those in which faults are planted are verified first.

    Raises UsageError if there is no artifact to plant in, and what `verify` raises.
    """
    chosen = _one_of_each_format(candidates)
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
            results += tested.plant_all(faults_of(model) if faults is None else faults)
    caught, missed = ([item for item in results if item.verdict is kind] for kind in (Verdict.CAUGHT, Verdict.MISSED))
    return SelfTestReport(
        model=model.name,
        reference=reference.source,
        passed=bool(caught) and not missed and all(item.passed for item in healthy),
        healthy=tuple(healthy),
        faults=tuple(results),
    )


class _SelfTest:
    """The test of one artifact."""

    def __init__(
        self,
        model: ModelSpec,
        reference: Reference,
        candidate: Candidate,
        artifact: ArtifactReport,
        rules: Rules,
        convert_again: ConvertAgain,
        progress: Progress,
    ) -> None:
        self.model, self.reference, self.candidate = model, reference, candidate
        self.rules, self.convert_again, self.progress = rules, convert_again, progress
        self.label, self.declaration = artifact.label, artifact.declaration

    def plant_all(self, faults: Sequence[Fault]) -> Iterator[FaultResult]:
        for done, fault in enumerate(faults):
            self.progress(f"{self.label}: {fault.name}", done, len(faults))
            with scratch_folder() as folder:  # one copy at a time: each is as large as the artifact
                yield self.plant(fault, folder)

    def plant(self, fault: Fault, folder: Path) -> FaultResult:
        try:
            copy = self.copy_with(fault, folder)
            if fault.decode is None and _same_bytes(self.candidate.path, copy):
                reason = "the file is the same with it, for these weights"
                return FaultResult(fault.name, self.label, Verdict.WITHOUT_EFFECT, reason=reason)
            failures = self.failures_of(fault, replace(self.candidate, path=copy), folder)
        except NotThereError as error:
            return FaultResult(fault.name, self.label, Verdict.NOT_PLANTED, reason=str(error))
        if not failures:
            return FaultResult(fault.name, self.label, Verdict.MISSED)
        worst = failures[0]
        message = worst.message.replace(f"{folder}{os.sep}", "")  # another one each time
        return FaultResult(fault.name, self.label, Verdict.CAUGHT, worst.check, message, worst.excess)

    def copy_with(self, fault: Fault, folder: Path) -> Path:
        """A copy of the artifact, in a folder named as its own, which says what it has to be; for a fault in the
        decoding the artifact itself.
        """
        if fault.plant is None and not fault.file_of:
            if self.declaration.faces:
                raise NotThereError("the file decodes its outputs itself")
            return self.candidate.path
        original = self.candidate.path.resolve()
        source = original
        if fault.file_of:
            if self.candidate.profile != Precision.FP32.value:
                raise NotThereError("the artifact does not lie in the place of FP32")
            source = original.parent.parent / fault.file_of / original.name
            if not is_file(source):
                raise NotThereError(f"there is no {fault.file_of} file beside the artifact")
        return _copy(fault, source, folder / original.parent.name)

    def failures_of(self, fault: Fault, copy: Candidate, folder: Path) -> tuple[Failure, ...]:
        hasty = replace(self.rules, thorough=False, decode=fault.decode)
        again = self.planted_again(fault, folder) if fault.at_other_size else self.convert_again
        for part in self.where_it_shows(fault):
            report = verify(self.model, part, [copy], hasty, convert_again=again)
            if report.failures:
                return report.failures
        return ()

    def where_it_shows(self, fault: Fault) -> Iterator[Reference]:
        """The answers that can show a fault, so that the others take no time: in parts, the best first.

        Tensors show a fault in the file, and the comparison stops at the first sample that does. A fault in the
        decoding shows where results are, but is not looked for before all samples are done: hence one after the other.
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

    @cached_property
    def fullest_first(self) -> list[Answer]:
        """The answers with results, those with the most first."""
        answers = self.reference.answers(*self.declaration.image_size(self.model))
        return sorted(filter(self.count_results, answers), key=self.count_results, reverse=True)

    def count_results(self, answer: Answer) -> int:
        task = self.model.task
        return task.count(task.decode(answer.outputs, answer.sample.image_size))

    def planted_again(self, fault: Fault, folder: Path) -> ConvertAgain:
        """Converts again, and plants the fault in that too."""

        def convert_and_plant(candidate: Candidate, declaration: Declaration) -> Path:
            healthy = self.convert_again(candidate, declaration)
            if healthy is None:
                raise NotThereError("the file takes one size only, and there is no checkpoint to convert again")
            return _copy(fault, healthy, folder / "again")

        return convert_and_plant


class _Part(Reference):
    """Some of a reference's answers."""

    def __init__(self, whole: Reference, answers: Sequence[Answer], other: Answer | None) -> None:
        self.source, self.weights, self.note = whole.source, whole.weights, whole.note
        self._answers, self._other = answers, other

    def answers(self, height: int, width: int) -> Sequence[Answer]:
        return self._answers

    def other_size(self) -> Answer | None:
        return self._other


def _one_of_each_format(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The artifact of the highest precision for each suffix."""
    precisions = list(PROFILES)

    def rank(candidate: Candidate) -> int:
        return precisions.index(candidate.profile) if candidate.profile in precisions else 0

    chosen: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=rank):
        kind = known_format(candidate.path)
        if kind is not None and kind.is_editable:
            chosen.setdefault(kind.key, candidate)
    if not chosen:
        editable = " or ".join(kind.suffix for kind in FORMATS.values() if kind.is_editable)
        raise UsageError(f"--self-test: there is no artifact to plant faults in; give one that is {editable}")
    return [chosen[key] for key in sorted(chosen)]


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


def _same_bytes(one: Path, other: Path) -> bool:
    pairs = zip(artifact_files(one), artifact_files(other), strict=True)
    return all(filecmp.cmp(first, second, shallow=False) for first, second in pairs)
