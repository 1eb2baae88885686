"""The comparison of artifacts with the original: all outputs and results on all samples, and one verdict.

The report lists all failures, the worst first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Declaration
from sshconvert.convert import LARGER
from sshconvert.digest import file_sha256
from sshconvert.errors import ArtifactError, DetectionError, ShapeError
from sshconvert.formats.registry import artifact_files
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.base import Task
from sshconvert.tasks.comparison import ClassComparison, DetectionComparison, VectorComparison
from sshconvert.tasks.faults import Decode, Size
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.inside import NOT_DECODED, POSTPROCESSING, Inside
from sshconvert.tasks.results import Box
from sshconvert.tasks.tolerances import PROFILES, Overrides, Profile, Tolerance
from sshtool.candidates import Candidate, labelled
from sshtool.environment import environment
from sshtool.parity.postprocessing import check_postprocessing, untried
from sshtool.parity.reference import Answer, Reference, run_all
from sshtool.parity.samples import OTHER, OTHER_TENSORS, Sample
from sshtool.parity.tensors import TensorComparison, compare_tensor
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import BF16, Feed, Outputs, Runtime, Settings
from sshtool.runtimes.loading import load

# The report's version. A changed meaning of a key changes it, a new key does not.
REPORT_VERSION: Final = 1

# Converts the checkpoint to another shape, with the options of the artifact. Returns None if that is impossible.
ConvertAgain = Callable[[Candidate, Declaration], Path | None]


@dataclass(frozen=True)
class Failure:
    """A failed check. `excess` is the difference over its limit.

    `excess` is None for a failure without a measure (a missing output, a file that cannot be loaded), which ranks as
    worse than any number.
    """

    artifact: str
    check: str
    message: str
    sample: str = ""
    output: str = ""
    excess: float | None = None


@dataclass(frozen=True)
class SampleComparison:
    """The comparison of one artifact with the original on one batch of images.

    `images` names the sample of each image, `sample` that of the first. `detections` has a comparison for each image,
    `results` instead for a task with other results. If the file's shape is fixed, another conversion of the checkpoint
    runs at the sample's shape (`converted_again`).
    """

    sample: str
    images: tuple[str, ...]
    tensors: tuple[TensorComparison, ...]
    detections: tuple[DetectionComparison, ...]
    converted_again: bool = False
    results: tuple[VectorComparison | ClassComparison, ...] = ()

    @property
    def compared(self) -> tuple[Any, ...]:
        """The comparison of each image's result, whatever the task."""
        return self.detections or self.results


@dataclass(frozen=True)
class ArtifactReport:
    """The comparisons of one artifact.

    `label` names it in the report, for example "onnx FP16". `inference_precision` is the type that the runtime reports.
    `figures` are the results of the task's checks in words, by their names, unless its results are detections.
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
    open: int = 0
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleReport:
    """One sample: its purpose, its shape [N, H, W, C], and the original's detections in each image.

    `words` are the original's other results, one for each image.
    """

    name: str
    purpose: str
    shape: tuple[int, ...]
    detections: tuple[tuple[Box, ...], ...]
    words: tuple[str, ...] = ()


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
    """The rules of a comparison. If not `thorough`, the comparison of an artifact ends at its first failing sample."""

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
    """Compare every candidate with the reference.

    The report lists an artifact that cannot be loaded or run as a failure. Raises ReferencePackError if the reference
    has no answers for an artifact's size, and RuntimeUnavailableError if a runtime is not installed.
    """
    labels = labelled(candidates)
    judges = [_Judge(label, model, reference, rules, convert_again, progress) for label in labels]
    reports = [judge.judge(candidate) for judge, candidate in zip(judges, labels.values(), strict=True)]
    failures = [failure for judge in judges for failure in judge.failures]
    artifacts = [report for report in reports if report is not None]
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


@dataclass
class _Judge:
    """Compares one candidate with the reference, and collects its failures."""

    label: str
    model: ModelSpec
    reference: Reference
    rules: Rules
    convert_again: ConvertAgain
    progress: Progress
    failures: list[Failure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # the reason by sample

    def judge(self, candidate: Candidate) -> ArtifactReport | None:
        try:
            runtime = load(candidate.path, self.model, self.rules.settings, key=candidate.runtime)
        except ArtifactError as error:
            self.fail("load", str(error))
            return None
        profile = PROFILES[_profile_name(candidate, runtime)]
        self.check_declaration(candidate, runtime.declaration)
        if reason := untried(runtime, self.model):
            self.skipped[POSTPROCESSING] = reason
        self.fail_all(check_postprocessing(runtime, self.model, self.reference, thorough=self.rules.thorough))
        comparisons, skipped = self.compare_all(candidate, runtime, profile)
        self.judge_results(comparisons, profile)
        if not self.failures and self.skipped and not comparisons:
            self.fail("evidence", "the original's answer to every sample is not finite; check its weights")
        if not (self.failures or _is_evidence(comparisons)):
            self.fail("evidence", "no tensor and no detection was compared, which proves nothing; lower the threshold")
        return self.report(candidate, runtime, profile, comparisons, skipped)

    def fail(
        self, check: str, message: str, *, sample: str = "", output: str = "", excess: float | None = None
    ) -> None:
        finite = None if excess is None or math.isinf(excess) else excess
        self.failures.append(Failure(self.label, check, message, sample, output, finite))

    def check_declaration(self, candidate: Candidate, declaration: Declaration) -> None:
        """Check the declared precision against the folder's, and the declared weights against the reference's."""
        folder, declared = candidate.profile, declaration.precision
        if folder and declared and folder != declared:
            self.fail("precision", f"{candidate.path} declares {declared}, but lies in the folder for {folder}")
        expected, weights = self.reference.weights, declaration.weights
        if _comparable(expected, weights) and expected != weights:
            self.fail("weights", f"{candidate.path} was made from {weights}, the reference from {expected}")

    def compare_all(
        self, candidate: Candidate, runtime: Runtime, profile: Profile
    ) -> tuple[list[SampleComparison], dict[str, str]]:
        left_out = self.model.task.left_out(profile)
        answers = _Chosen(self.reference.answers(*runtime.declaration.sample_size(self.model)), left_out)
        comparisons: list[SampleComparison] = []
        for index, group in enumerate(groups(answers, runtime.declaration.batch)):
            if not self.rules.thorough and self.failures:
                return comparisons, {}
            self.progress(f"{self.label} on {runtime}", min(index, len(answers) - 1), len(answers))
            comparisons += self.compare(runtime, group, profile)
        if runtime.declaration.tensors:
            skipped = self.compare_other_shapes(runtime, profile, comparisons)
        else:
            skipped = self.compare_other_size(candidate, runtime, profile, comparisons)
        return comparisons, {**left_out, **self.skipped, **skipped}

    def compare_other_shapes(
        self, runtime: Runtime, profile: Profile, comparisons: list[SampleComparison]
    ) -> dict[str, str]:
        """Compare at larger sizes of the free dimensions. Returns the reason by sample if there is no answer."""
        shapes = other_shapes(runtime.declaration, self.model)
        if shapes == self.model.input_shapes:
            return {}
        answer = self.reference.at_shapes(shapes)
        if answer is None:
            return {OTHER_TENSORS: f"{self.reference.source} has no answers for other shapes"}
        comparisons += self.compare(runtime, [answer], profile)
        return {}

    def compare_other_size(
        self, candidate: Candidate, runtime: Runtime, profile: Profile, comparisons: list[SampleComparison]
    ) -> dict[str, str]:
        """Compare at another size: the file itself if it takes that size, otherwise a new conversion.

        Returns the reason by sample if the comparison is impossible.
        """
        answer = self.reference.other_size()
        if answer is None:
            return {OTHER: f"{self.reference.source} takes one size only"}
        images = answer.split()
        if _takes(runtime.declaration, answer.sample):
            places = runtime.declaration.input_shape[0] or len(images)
            # Repeated images fill a larger batch. A file for fewer images takes them in several runs.
            group = [images[place % len(images)] for place in range(max(places, len(images)))]
            comparisons += self.compare(runtime, group, profile)
            return {}
        shape = "x".join(map(str, runtime.declaration.input_shape))
        try:
            again = self.convert_again(candidate, runtime.declaration)
            if again is None:
                return {OTHER: f"the file takes {shape} only, and cannot be converted again"}
            other = load(again, self.model, self.rules.settings, key=candidate.runtime)
        except ShapeError as error:
            return {OTHER: f"the network takes {shape} only ({error})"}
        except ArtifactError as error:
            self.fail("load", str(error), sample=OTHER)
            return {}
        comparisons += (replace(item, converted_again=True) for item in self.compare(other, images, profile))
        return {}

    def compare(self, runtime: Runtime, group: Sequence[Answer], profile: Profile) -> list[SampleComparison]:
        """Compare on one batch of images of one size. Returns nothing if the artifact cannot be run."""
        names = tuple(answer.sample.name for answer in group)
        feed, expected = _together(group)
        if runtime.declaration.tensors and not all(np.isfinite(array).all() for array in expected.values()):
            self.skipped[names[0]] = "the original's answer is not finite"
            return []
        try:
            outputs = run_all(runtime, feed)
        except ArtifactError as error:
            self.fail("run", str(error), sample=names[0])
            return []
        inside = runtime.declaration.faces
        # A file with results may keep the task's outputs too. A new conversion never keeps them.
        kept: Mapping[str, Array] = expected if inside is None or any(name in outputs for name in expected) else {}
        self.check_names([*(self.model.task.inside_outputs if inside else ()), *kept], outputs, names[0])
        tensors = tuple(
            compare_tensor(name, array, outputs.get(name), self.tolerance(profile, name, array))
            for name, array in kept.items()
        )
        for tensor in tensors:
            self.judge_tensor(tensor, names)
        size = group[0].sample.image_size
        results = self.compare_results(expected, outputs, names, size, profile, inside)
        if self.model.task.comparison is DetectionComparison:
            return [SampleComparison(names[0], names, tensors, results)]
        return [SampleComparison(names[0], names, tensors, (), results=results)]

    def tolerance(self, profile: Profile, output: str, expected: Array) -> Tolerance:
        """Return the tolerance of an output. Its absolute part is relative to the range of a tensor of any scale."""
        tolerance = self.rules.overrides.tolerance(profile, output)
        if {"", output} & self.rules.overrides.atol.keys():
            return tolerance
        largest = float(np.abs(expected).max(initial=0))
        scale = self.model.task.scale_of(output, expected, profile) if self.model.takes_image else largest
        return Tolerance(tolerance.atol * scale, tolerance.rtol)

    def check_names(self, expected: Sequence[str], outputs: Outputs, sample: str) -> None:
        if list(expected) == list(outputs) or any(failure.check in ("names", "order") for failure in self.failures):
            return
        if set(expected) != set(outputs):
            missing, unknown = sorted(set(expected) - set(outputs)), sorted(set(outputs) - set(expected))
            self.fail("names", f"outputs missing: {missing}; unknown: {unknown}", sample=sample)
        else:
            self.fail("order", f"the outputs come in the order {', '.join(outputs)}", sample=sample)

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
        sample = images[tensor.worst[0]] if tensor.worst and tensor.worst[0] < len(images) else images[0]
        self.fail("tensor", message, sample=sample, output=tensor.output, excess=excess)

    def compare_results(
        self,
        expected: Outputs,
        outputs: Outputs,
        images: Sequence[str],
        size: Size,
        profile: Profile,
        inside: Inside | None,
    ) -> tuple[Any, ...]:
        task, top_k = self.model.task, None
        if type(task).compare is Task.compare:
            return ()
        if inside:
            task, top_k = task.with_thresholds(inside.score_threshold, inside.iou_threshold), inside.top_k
            if problems := task.problems_inside(expected, outputs, inside):
                self.fail_all(replace(problem, sample=images[0]) for problem in problems)
                return tuple(DetectionComparison(problem=NOT_DECODED) for _ in images)
        try:
            original = [result[:top_k] if top_k else result for result in task.decode(expected, size)]
            decode = self.rules.decode or type(task).decode
            results = task.decode_inside(outputs) if inside else decode(task, outputs, size)
        except DetectionError as error:
            return tuple(task.comparison(problem=str(error)) for _ in images)

        def allowed(output: str) -> Tolerance:
            return self.rules.overrides.tolerance(profile, output)

        return task.without_open(task.compare(original, results, profile, allowed), expected, size, profile, allowed)

    def fail_all(self, findings: Iterable[Discrepancy]) -> None:
        for item in findings:
            self.fail(item.check, item.message, sample=item.sample, output=item.output, excess=item.excess)

    def judge_results(self, comparisons: Sequence[SampleComparison], profile: Profile) -> None:
        """Let the task judge the results of all samples. A result that cannot be decoded is a failure too."""
        compared = [
            pair
            for item in comparisons
            if item.compared
            for pair in zip(item.images, item.compared, strict=True)
            if not (item.detections and pair[0] in profile.undecided)
        ]
        self.fail_all(self.model.task.judge(compared, profile))
        problems = {comparison.problem: sample for sample, comparison in reversed(compared)}
        for problem, sample in problems.items():
            if problem not in ("", NOT_DECODED):
                self.fail(
                    "detections" if self.model.task.comparison is DetectionComparison else "results",
                    problem,
                    sample=sample,
                )

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
        measured = [value for value in largest if value is not None]
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
            largest=max(measured) if measured and len(measured) == len(largest) else None,
            matched=sum(image.matched for image in images),
            missing=sum(len(image.missing) for image in images),
            extra=sum(len(image.extra) for image in images),
            near_threshold=sum(len(image.near_threshold) for image in images),
            open=sum(len(image.open) for image in images),
            passed=not self.failures,
            figures=self.model.task.figures([image for item in comparisons for image in item.results]),
        )


def _profile_name(candidate: Candidate, runtime: Runtime) -> str:
    """Return the tolerance profile: `--profile`, otherwise that of the folder, of the metadata, or FP32.

    A shorter inference precision than the stored one gives the profile, unless `--profile` names one.
    """
    if candidate.forced_profile:
        return candidate.forced_profile
    stored = next((name for name in (candidate.profile, runtime.declaration.precision) if name in PROFILES), "FP32")
    computed = "BF16" if runtime.inference_precision == BF16 else stored
    return max(stored, computed, key=list(PROFILES).index)


def _comparable(one: str, other: str) -> bool:
    """Return whether two names of weights must be equal: "sha256:" names an archive, "params-sha256:" a file in it."""
    prefixes = {name.partition(":")[0] for name in (one, other)}
    return bool(one and other) and ("demo" in prefixes or len(prefixes) == 1)


def _is_evidence(comparisons: Iterable[SampleComparison]) -> bool:
    """Return whether a tensor, or a detection of either side, was compared."""
    return any(
        item.tensors or any(image.matched or image.differing for image in item.detections) for item in comparisons
    )


def _together(group: Sequence[Answer]) -> tuple[Feed, dict[str, Array]]:
    """Return the images of all answers as one batch, and the expected outputs. Tensors are one answer."""
    first = group[0]
    if not first.sample.is_pictured:
        return first.sample.feed, dict(first.outputs)
    images = np.concatenate([answer.sample.images for answer in group])
    return images, {name: np.concatenate([answer.outputs[name] for answer in group]) for name in first.outputs}


def other_shapes(declaration: Declaration, model: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return larger shapes for tensors with free dimensions: the shapes at which the conversion looked too."""
    own = model.input_shapes
    return {
        tensor.name: tuple(
            size + LARGER if declared == FREE else size
            for size, declared in zip(own.get(tensor.name, tensor.shape), tensor.shape, strict=False)
        )
        for tensor in declaration.tensors
    }


def _takes(declaration: Declaration, sample: Sample) -> bool:
    """Return whether the input takes images of the sample's size, in any number."""
    sizes = zip(declaration.input_shape[2:], sample.image_size, strict=True)
    return all(declared in (None, size) for declared, size in sizes)


class _Chosen:
    """The answers to the samples that are not left out, read on demand because they may not all fit in memory."""

    def __init__(self, answers: Sequence[Answer], left_out: Container[str]) -> None:
        self._answers = answers
        self._indices = [
            index for index in range(len(answers)) if not left_out or answers[index].sample.name not in left_out
        ]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Answer:
        return self._answers[self._indices[index]]


def groups(answers: _Chosen, batch: int | None) -> Iterator[Sequence[Answer]]:
    """Yield the batches for a file that takes `batch` images (None: any number), with different images in each place.

    Each answer is the first of one batch. If the file takes any number, further batches combine the first answers, so
    that images with detections come in more than one place.
    """
    count = len(answers)
    for turn in range(count):
        # The step grows with each round of places, so no two places have the same image in every turn.
        yield [answers[(turn * (1 + place // count) + place) % count] for place in range(batch or 1)]
    if batch is None:
        for places in ((1, 0), (0, 1, 2, 3), (3, 2, 1, 0)):
            if len(places) <= count:
                yield [answers[place] for place in places]


def _worst_first(failure: Failure) -> tuple[float, str, str, str]:
    excess = math.inf if failure.excess is None else failure.excess
    return (-excess, failure.artifact, failure.sample, failure.output)


def _notes(reference: Reference, artifacts: Iterable[ArtifactReport]) -> Iterable[str]:
    """Yield the reference's note, and each remark once with the labels of its artifacts."""
    if reference.note:
        yield reference.note
    labels: dict[str, list[str]] = {}
    for artifact in artifacts:
        for remark in _remarks(artifact):
            labels.setdefault(remark, []).append(artifact.label)
    yield from (f"{', '.join(names)}: {remark}" for remark, names in labels.items())


def _remarks(artifact: ArtifactReport) -> Iterable[str]:
    for sample, reason in artifact.skipped.items():
        yield f"{sample} was left out: {reason}"
    compared = {item.sample for item in artifact.samples}
    for sample, reason in artifact.profile.undecided.items():
        if sample in compared and not artifact.figures:
            yield f"detections on {sample} are not judged in {artifact.profile.name}: {reason}"
    if any(item.converted_again for item in artifact.samples):
        yield f"the shape is fixed, so the checkpoint was converted again for {OTHER}"
    if artifact.near_threshold:
        yield (
            f"{artifact.near_threshold} detections that only one side has lie within the tolerance of the score "
            "threshold or of the suppression threshold; they are not counted as errors"
        )
    if artifact.open:
        yield (
            f"rounding decides {artifact.open} detections that only one side has, of equal scores or at a threshold; "
            "they are not counted as errors"
        )
    if not artifact.declaration.weights:
        yield "the file does not name its checkpoint"


def _describe_samples(
    model: ModelSpec, reference: Reference, artifacts: Iterable[ArtifactReport]
) -> tuple[SampleReport, ...]:
    sizes = {artifact.declaration.sample_size(model) for artifact in artifacts}
    answers = (answer for size in sorted(sizes) for answer in reference.answers(*size))  # one at a time
    other = reference.other_size()
    return tuple(
        SampleReport(
            answer.sample.name,
            answer.sample.purpose,
            answer.sample.shape,
            tuple(model.task.rows(answer.outputs, answer.sample.image_size)),
            tuple(model.task.words(answer.outputs, answer.sample.image_size)),
        )
        for answer in chain(answers, (other,) if other else ())
    )
