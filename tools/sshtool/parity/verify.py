"""The comparison of artifacts with the original: every sample, every output, every detection; then one verdict.

All failures are collected, the worst first; nothing stops at the first one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.contract import Declaration
from sshconvert.digest import file_sha256
from sshconvert.errors import ArtifactError, DetectionError
from sshconvert.formats.registry import artifact_files
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.base import Task
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.faults import Decode
from sshconvert.tasks.findings import Finding
from sshconvert.tasks.inside import NOT_DECODED, Inside
from sshconvert.tasks.results import Box
from sshconvert.tasks.tolerances import PROFILES, Overrides, Profile
from sshtool.candidates import Candidate, labelled
from sshtool.environment import environment
from sshtool.parity.reference import Answer, Reference, run_all
from sshtool.parity.samples import OTHER, Sample
from sshtool.parity.tensors import TensorComparison, compare_tensor
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import BF16, Outputs, Runtime, Settings
from sshtool.runtimes.loading import load

# Of the report. A new key does not change it; a changed meaning does.
REPORT_VERSION: Final = 1

# Converts the checkpoint again, as that file was converted, to another shape; None where it cannot.
ConvertAgain = Callable[[Candidate, Declaration], Path | None]


@dataclass(frozen=True)
class Failure:
    """Something that is not as it must be. `excess` is the difference over what is allowed, None where there is no
    measure (a missing output, a file that cannot be loaded): that is worse than any number.
    """

    artifact: str
    check: str
    message: str
    sample: str = ""
    output: str = ""
    excess: float | None = None


@dataclass(frozen=True)
class SampleComparison:
    """One artifact beside the original on one sample. `converted_again`: not the file itself was run, whose shape is
    fixed, but what the same checkpoint converts to at the sample's shape.

    `images` has the sample of each image that was run at once, of which `sample` is the first, and `detections` one
    comparison for each of them.
    """

    sample: str
    images: tuple[str, ...]
    tensors: tuple[TensorComparison, ...]
    detections: tuple[DetectionComparison, ...]
    converted_again: bool = False


@dataclass(frozen=True)
class ArtifactReport:
    """Everything about one artifact. `label` names it in the report, for example "onnx FP16"; `inference_precision` is
    what the runtime says that it computes in, which `settings` may have asked for.
    """

    label: str
    path: Path
    files: Mapping[str, str]
    runtime: str
    settings: Settings
    inference_precision: str
    declaration: Declaration
    profile: Profile
    samples: tuple[SampleComparison, ...]
    skipped: Mapping[str, str]
    largest: float | None
    matched: int
    missing: int
    extra: int
    near_threshold: int
    passed: bool


@dataclass(frozen=True)
class SampleReport:
    """One sample: what it is there for, its shape N, H, W, C, and the original's detections in each image."""

    name: str
    purpose: str
    shape: tuple[int, ...]
    detections: tuple[tuple[Box, ...], ...]


@dataclass(frozen=True)
class VerifyReport:
    """The evidence and the verdict."""

    report_version: int
    model: str
    weights: str
    reference: str
    notes: tuple[str, ...]
    passed: bool
    failures: tuple[Failure, ...]
    outputs: tuple[str, ...]
    artifacts: tuple[ArtifactReport, ...]
    samples: tuple[SampleReport, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Rules:
    """How strictly, and how far, to compare. With `thorough` off an artifact is left at its first failing sample."""

    overrides: Overrides = field(default_factory=Overrides)
    settings: Settings = field(default_factory=Settings)
    thorough: bool = True
    decode: Decode | None = None  # instead of the task's


def verify(
    model: ModelSpec,
    reference: Reference,
    candidates: Sequence[Candidate],
    rules: Rules = Rules(),  # frozen
    *,
    convert_again: ConvertAgain = lambda _candidate, _declaration: None,
    progress: Progress = silent,
) -> VerifyReport:
    """Hold every candidate to the reference.

    An artifact that cannot be loaded or run is a failure in the report. Raises ReferencePackError if the reference
    has no answers for an artifact's size, RuntimeUnavailableError if a runtime is not installed.
    """
    judged = [
        _Judge(label, model, reference, rules, convert_again, progress).judge(candidate)
        for label, candidate in labelled(candidates).items()
    ]
    failures = [failure for _, found in judged for failure in found]
    artifacts = [report for report, _ in judged if report is not None]
    return VerifyReport(
        report_version=REPORT_VERSION,
        model=model.name,
        weights=reference.weights,
        reference=reference.source,
        notes=tuple(_notes(reference, artifacts)),
        passed=bool(candidates) and not failures,
        failures=tuple(sorted(failures, key=_worst_first)),
        outputs=model.output_names,
        artifacts=tuple(artifacts),
        samples=_describe_samples(model, reference, artifacts),
        environment=environment(),
    )


class _Judge:
    """Compares one candidate, and collects what is wrong with it."""

    def __init__(
        self,
        label: str,
        model: ModelSpec,
        reference: Reference,
        rules: Rules,
        convert_again: ConvertAgain,
        progress: Progress,
    ) -> None:
        self.label, self.model, self.reference, self.rules = label, model, reference, rules
        self.convert_again, self.progress = convert_again, progress
        self.failures: list[Failure] = []

    def judge(self, candidate: Candidate) -> tuple[ArtifactReport | None, list[Failure]]:
        try:
            runtime = load(candidate.path, self.model, self.rules.settings, key=candidate.runtime)
        except ArtifactError as error:
            self.fail("load", str(error))
            return None, self.failures
        profile = PROFILES[_profile_name(candidate, runtime)]
        self.check_declaration(candidate, runtime.declaration)
        comparisons, skipped = self.compare_all(candidate, runtime, profile)
        self.judge_results(comparisons, profile)
        if not (self.failures or _is_evidence(comparisons)):
            self.fail("evidence", "no tensor and no detection was compared, which proves nothing; lower the threshold")
        return self.report(candidate, runtime, profile, comparisons, skipped), self.failures

    def fail(
        self, check: str, message: str, *, sample: str = "", output: str = "", excess: float | None = None
    ) -> None:
        finite = None if excess is None or math.isinf(excess) else excess
        self.failures.append(Failure(self.label, check, message, sample, output, finite))

    def check_declaration(self, candidate: Candidate, declaration: Declaration) -> None:
        """What the file says of itself must fit the place where it lies and the checkpoint that it is held to."""
        place, said = candidate.profile, declaration.precision
        if place and said and place != said:
            self.fail("precision", f"{candidate.path} says that it is {said}, in the place of {place}")
        expected, found = self.reference.weights, declaration.weights
        if _comparable(expected, found) and expected != found:
            self.fail("weights", f"{candidate.path} was made from {found}, the reference from {expected}")

    def compare_all(
        self, candidate: Candidate, runtime: Runtime, profile: Profile
    ) -> tuple[list[SampleComparison], dict[str, str]]:
        answers = _Chosen(self.reference.answers(*runtime.declaration.image_size(self.model)), profile.left_out)
        comparisons: list[SampleComparison] = []
        for done, group in enumerate(groups(answers, runtime.declaration.input_shape[0])):
            if not self.rules.thorough and self.failures:
                return comparisons, {}
            self.progress(f"{self.label} on {runtime}", min(done, len(answers) - 1), len(answers))
            comparisons += self.compare(runtime, group, profile)
        skipped = self.compare_other_size(candidate, runtime, profile, comparisons)
        return comparisons, {**profile.left_out, **skipped}

    def compare_other_size(
        self, candidate: Candidate, runtime: Runtime, profile: Profile, comparisons: list[SampleComparison]
    ) -> dict[str, str]:
        """Compare at another size: the file itself if it takes any, otherwise what converts to that size."""
        answer = self.reference.other_size()
        if answer is None:
            return {OTHER: f"{self.reference.source} takes one size only"}
        images = answer.split()
        if _takes(runtime.declaration, answer.sample):
            places = runtime.declaration.input_shape[0] or len(images)
            # A file for more images than there are gets some twice, one for a single image one after the other.
            group = [images[place % len(images)] for place in range(max(places, len(images)))]
            comparisons += self.compare(runtime, group, profile)
            return {}
        shape = "x".join(map(str, runtime.declaration.input_shape))
        try:
            again = self.convert_again(candidate, runtime.declaration)
            if again is None:
                return {OTHER: f"the file takes {shape} only, and cannot be converted again"}
            other = load(again, self.model, self.rules.settings, key=candidate.runtime)
        except ArtifactError as error:
            self.fail("load", str(error), sample=OTHER)
            return {}
        comparisons += (replace(found, converted_again=True) for found in self.compare(other, images, profile))
        return {}

    def compare(self, runtime: Runtime, group: Sequence[Answer], profile: Profile) -> list[SampleComparison]:
        """Compare on images of one size that are run at once; nothing where the artifact cannot be run."""
        names = tuple(answer.sample.name for answer in group)
        images = np.concatenate([answer.sample.images for answer in group])
        expected = {name: np.concatenate([answer.outputs[name] for answer in group]) for name in group[0].outputs}
        try:
            found = run_all(runtime, images)
        except ArtifactError as error:
            self.fail("run", str(error), sample=names[0])
            return []
        inside = runtime.declaration.faces
        # Beside the results a file may keep all the task's outputs; what is converted again has the results alone.
        kept = expected if inside is None or any(name in found for name in expected) else {}
        self.check_names([*(self.model.task.inside_outputs if inside else ()), *kept], found, names[0])
        tensors = tuple(
            compare_tensor(name, array, found.get(name), self.rules.overrides.tolerance(profile, name))
            for name, array in kept.items()
        )
        for tensor in tensors:
            self.judge_tensor(tensor, names)
        size = group[0].sample.image_size
        detections = self.compare_results(expected, found, names, size, profile, inside)
        return [SampleComparison(names[0], names, tensors, detections)]

    def check_names(self, expected: Sequence[str], found: Outputs, sample: str) -> None:
        if list(expected) == list(found) or any(failure.check in ("names", "order") for failure in self.failures):
            return
        if set(expected) != set(found):
            missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
            self.fail("names", f"outputs missing: {missing}; unknown: {unknown}", sample=sample)
        else:
            self.fail("order", f"the outputs come in the order {', '.join(found)}", sample=sample)

    def judge_tensor(self, tensor: TensorComparison, images: Sequence[str]) -> None:
        if tensor.passed:
            return
        if tensor.required_atol is None:
            self.fail("tensor", f"{tensor.output}: {tensor.problem}", sample=images[0], output=tensor.output)
            return
        excess = tensor.required_atol / tensor.atol if tensor.atol else math.inf
        message = (
            f"{tensor.output}: off by {tensor.largest:.2e} at {tensor.worst}, first beyond the tolerance at "
            f"{tensor.first_beyond}; needs atol {tensor.required_atol:.2e}, "
            f"has {tensor.atol:g} + {tensor.rtol:g} |expected|"
        )
        where = images[tensor.worst[0]] if tensor.worst else images[0]
        self.fail("tensor", message, sample=where, output=tensor.output, excess=excess)

    def compare_results(
        self,
        expected: Outputs,
        found: Outputs,
        images: Sequence[str],
        size: tuple[int, int],
        profile: Profile,
        inside: Inside | None,
    ) -> tuple[DetectionComparison, ...]:
        task, most = self.model.task, None
        if type(task).compare is Task.compare:
            return ()
        if inside:
            task, most = task.with_thresholds(inside.score_threshold, inside.iou_threshold), inside.top_k
            if problems := task.problems_inside(expected, found, inside):
                self.fail_all(replace(problem, sample=images[0]) for problem in problems)
                return tuple(DetectionComparison(problem=NOT_DECODED) for _ in images)
        try:
            right = [result[:most] if most else result for result in task.decode(expected, size)]
            decode = self.rules.decode or type(task).decode
            other = task.decode_inside(found) if inside else decode(task, found, size)
        except DetectionError as error:
            return tuple(DetectionComparison(problem=str(error)) for _ in images)
        return task.compare(right, other, profile, lambda output: self.rules.overrides.tolerance(profile, output))

    def fail_all(self, findings: Iterable[Finding]) -> None:
        for item in findings:
            self.fail(item.check, item.message, sample=item.sample, output=item.output, excess=item.excess)

    def judge_results(self, comparisons: Sequence[SampleComparison], profile: Profile) -> None:
        """Let the task judge the results of all samples. A result that could not be decoded is a failure too."""
        compared = [
            pair
            for item in comparisons
            if item.detections
            for pair in zip(item.images, item.detections, strict=True)
            if pair[0] not in profile.undecided
        ]
        self.fail_all(self.model.task.judge(compared, profile))
        problems = {found.problem: sample for sample, found in reversed(compared)}
        for problem, sample in problems.items():
            if problem not in ("", NOT_DECODED):
                self.fail("detections", problem, sample=sample)

    def report(
        self,
        candidate: Candidate,
        runtime: Runtime,
        profile: Profile,
        comparisons: Sequence[SampleComparison],
        skipped: Mapping[str, str],
    ) -> ArtifactReport:
        images = [image for item in comparisons for image in item.detections]
        largest = [tensor.largest for item in comparisons for tensor in item.tensors]
        known = [value for value in largest if value is not None]
        return ArtifactReport(
            label=self.label,
            path=candidate.path,
            files={name_text(path.name): file_sha256(path) for path in artifact_files(candidate.path)},
            runtime=str(runtime),
            settings=runtime.settings,
            inference_precision=runtime.inference_precision,
            declaration=runtime.declaration,
            profile=profile,
            samples=tuple(comparisons),
            skipped=skipped,
            largest=max(known) if known and len(known) == len(largest) else None,
            matched=sum(image.matched for image in images),
            missing=sum(len(image.missing) for image in images),
            extra=sum(len(image.extra) for image in images),
            near_threshold=sum(len(image.near_threshold) for image in images),
            passed=not self.failures,
        )


def _profile_name(candidate: Candidate, runtime: Runtime) -> str:
    """The user decides; otherwise the place does; without a place, the file; without a word from it, FP32.

    What is computed in a shorter type than it is stored in is held to the profile of that type.
    """
    if candidate.forced_profile:
        return candidate.forced_profile
    stored = next((name for name in (candidate.profile, runtime.declaration.precision) if name in PROFILES), "FP32")
    computed = "BF16" if runtime.inference_precision == BF16 else stored
    return max(stored, computed, key=list(PROFILES).index)


def _comparable(one: str, other: str) -> bool:
    """Whether two names of weights must be equal: "sha256:" is of an archive, "params-sha256:" of a file in it."""
    kinds = {name.partition(":")[0] for name in (one, other)}
    return bool(one and other) and ("demo" in kinds or len(kinds) == 1)


def _is_evidence(comparisons: Iterable[SampleComparison]) -> bool:
    """Whether anything was compared: a tensor, or a detection that one of the two sides has."""
    return any(
        item.tensors or any(found.matched or found.differing for found in item.detections) for item in comparisons
    )


def _takes(declaration: Declaration, sample: Sample) -> bool:
    """Whether images of that size go in, whatever their number."""
    sizes = zip(declaration.input_shape[2:], sample.image_size, strict=True)
    return all(declared in (None, size) for declared, size in sizes)


class _Chosen:
    """Some of the answers, which are looked at only when they are needed: all of them may not fit in memory."""

    def __init__(self, answers: Sequence[Answer], left_out: Container[str]) -> None:
        self._answers = answers
        self._numbers = [
            number for number in range(len(answers)) if not left_out or answers[number].sample.name not in left_out
        ]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Answer:
        return self._answers[self._numbers[number]]


def groups(answers: _Chosen, batch: int | None) -> Iterator[Sequence[Answer]]:
    """What to run at once, for a file that takes `batch` images (None: any number): different images in each place.

    A group for every answer, which is its first image. If the file takes any number, further groups are of several of
    the first answers, so that images with detections come in more than one place.
    """
    number = len(answers)
    for turn in range(number):
        # The further round, the larger the step: so no two places have the same image in every turn.
        yield [answers[(turn * (1 + place // number) + place) % number] for place in range(batch or 1)]
    if batch is None:
        for places in ((1, 0), (0, 1, 2, 3), (3, 2, 1, 0)):
            if len(places) <= number:
                yield [answers[place] for place in places]


def _worst_first(failure: Failure) -> tuple[float, str, str, str]:
    excess = math.inf if failure.excess is None else failure.excess
    return (-excess, failure.artifact, failure.sample, failure.output)


def _notes(reference: Reference, artifacts: Iterable[ArtifactReport]) -> Iterable[str]:
    """What a reader must know; what holds for several artifacts is said once."""
    if reference.note:
        yield reference.note
    concerned: dict[str, list[str]] = {}
    for artifact in artifacts:
        for remark in _remarks(artifact):
            concerned.setdefault(remark, []).append(artifact.label)
    yield from (f"{', '.join(labels)}: {remark}" for remark, labels in concerned.items())


def _remarks(artifact: ArtifactReport) -> Iterable[str]:
    for sample, reason in artifact.skipped.items():
        yield f"{sample} was left out: {reason}"
    compared = {item.sample for item in artifact.samples}
    for sample, reason in artifact.profile.undecided.items():
        if sample in compared:
            yield f"detections on {sample} are not judged in {artifact.profile.name}: {reason}"
    if any(item.converted_again for item in artifact.samples):
        yield f"the shape is fixed, so the checkpoint was converted again for {OTHER}"
    if artifact.near_threshold:
        yield (
            f"of the detections that only one side has, {artifact.near_threshold} lie so close to the threshold of "
            "the score or of the suppression that the tolerance alone decides; they are not counted as errors"
        )
    if not artifact.declaration.weights:
        yield "the file does not say from which checkpoint it was made"


def _describe_samples(
    model: ModelSpec, reference: Reference, artifacts: Iterable[ArtifactReport]
) -> tuple[SampleReport, ...]:
    sizes = {artifact.declaration.image_size(model) for artifact in artifacts}
    answers = (answer for size in sorted(sizes) for answer in reference.answers(*size))  # one at a time
    other = reference.other_size()
    return tuple(
        SampleReport(
            answer.sample.name,
            answer.sample.purpose,
            answer.sample.images.shape,
            tuple(model.task.rows(answer.outputs, answer.sample.image_size)),
        )
        for answer in chain(answers, (other,) if other else ())
    )
