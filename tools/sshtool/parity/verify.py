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
from sshconvert.errors import ArtifactError, DetectionError, PrecisionError, ShapeError
from sshconvert.formats.registry import artifact_files
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.base import Task
from sshconvert.tasks.certainty import Certainty
from sshconvert.tasks.comparison import ClassComparison, DetectionComparison, VectorComparison
from sshconvert.tasks.faults import Decode, Size
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.inside import NOT_DECODED, POSTPROCESSING, Inside
from sshconvert.tasks.results import Box
from sshconvert.tasks.tolerances import (
    FACTOR,
    MOST_DISTANT,
    PROFILES,
    UNIT,
    Overrides,
    Profile,
    Tolerance,
    Yardstick,
    magnitude,
)
from sshtool.candidates import Candidate, labelled
from sshtool.environment import environment
from sshtool.parity.postprocessing import check_postprocessing, untried
from sshtool.parity.reference import Answer, Reference, RoundedReference, run_all
from sshtool.parity.samples import OTHER, OTHER_TENSORS, Sample
from sshtool.parity.tensors import TensorComparison, compare_tensor
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import BF16, Feed, Outputs, Runtime, Settings
from sshtool.runtimes.loading import load

# The report's version. A changed meaning of a key changes it, a new key does not.
REPORT_VERSION: Final = 2

# Exact answers, also those of rounded weights, leave no more room than FP32.
STRICT: Final = replace(PROFILES["FP32"], strict=True)

# What a runtime does not show of a file that gives results alone, among the samples that were left out.
HEADS: Final = "the heads inside the file"

# The least distance that is measured (`UNIT`), in words.
FEW_STEPS: Final = "a few steps of float32"

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
    runs at the sample's shape (`converted_again`). `exact`: the expected outputs are computed in double precision.
    `by_levels`: they follow from the levels that the runtime chose in another run, and have the profile's tolerances.
    """

    sample: str
    images: tuple[str, ...]
    tensors: tuple[TensorComparison, ...]
    detections: tuple[DetectionComparison, ...]
    converted_again: bool = False
    results: tuple[VectorComparison | ClassComparison, ...] = ()
    exact: bool = False
    by_levels: bool = False

    @property
    def compared(self) -> tuple[Any, ...]:
        """The comparison of each image's result, whatever the task."""
        return self.detections or self.results


@dataclass(frozen=True)
class ArtifactReport:
    """The comparisons of one artifact.

    `label` names it in the report, for example "onnx FP16". `inference_precision` is the type that the runtime reports.
    `figures` are the results of the task's checks in words, by their names, unless its results are detections.

    `samples` are the comparisons that decide. For rounded weights, their expected outputs are those of the network with
    the same rounded weights (`rounded`), and `cost` has the comparisons with the unrounded network: what the precision
    costs, which is no fault. `times` is the largest distance from the exact result, in units of the original's own;
    None without an exact result. `certain`, `excluded` and `undecided` count the original's candidates.
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
    rounded: bool = False
    cost: tuple[SampleComparison, ...] = ()
    times: float | None = None
    certain: int | None = None
    excluded: int = 0
    undecided: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def all_samples(self) -> tuple[SampleComparison, ...]:
        """The comparisons that decide, then those of the cost."""
        return (*self.samples, *self.cost)


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
    """The evidence and the verdict.

    `yardsticks` say how far the original in float32 is from the exact result, for each size of the samples; none
    without an exact result.
    """

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
    yardsticks: tuple[Yardstick, ...] = ()


@dataclass(frozen=True)
class Rules:
    """The rules of a comparison. If not `thorough`, the comparison of an artifact ends at its first failing sample."""

    overrides: Overrides = field(default_factory=Overrides)
    settings: Settings = field(default_factory=Settings)
    thorough: bool = True
    decode: Decode | None = None  # instead of the task's
    rounded: Reference | None = None  # instead of the answers for the rounding that an artifact declares


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
    known: dict[Any, tuple[Certainty, ...]] = {}
    judges = [_Judge(label, model, reference, rules, convert_again, progress, known=known) for label in labels]
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
        yardsticks=_yardsticks(model, reference, artifacts),
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
    rounded: Reference | None = None  # the answers that decide, if the weights are rounded
    cost: list[SampleComparison] = field(default_factory=list)
    yardstick: Yardstick | None = None
    notes: list[str] = field(default_factory=list)
    followed: dict[tuple[str, int], Answer] = field(default_factory=dict)  # by sample, and place in the other size
    known: dict[Any, tuple[Certainty, ...]] = field(default_factory=dict)  # shared by all artifacts

    def judge(self, candidate: Candidate) -> ArtifactReport | None:
        try:
            runtime = load(candidate.path, self.model, self.rules.settings, key=candidate.runtime)
        except ArtifactError as error:
            self.fail("load", str(error))
            return None
        profile = PROFILES[_profile_name(candidate, runtime)]
        self.check_declaration(candidate, runtime.declaration)
        self.find_expected(candidate, runtime, profile)
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

    def find_expected(self, candidate: Candidate, runtime: Runtime, profile: Profile) -> None:
        """Find the answers and the yardstick by which the artifact is judged."""
        size = runtime.declaration.sample_size(self.model)
        expected: Reference | None = self.reference
        if profile.rounds and candidate.forced_profile:
            self.notes.append(f"constant tolerances decide, those of {profile.name}, as --profile says")
            expected = None
        elif profile.rounds:
            self.progress(f"{self.label}: reading how its weights are rounded")
            try:
                expected = self.rules.rounded or self.reference.rounded(
                    candidate.path, runtime.declaration.precision, self.model.task.left_out(profile)
                )
            except (ArtifactError, PrecisionError) as error:
                self.notes.append(f"constant tolerances decide, because its rounding is not understood ({error})")
                expected = None
            self.rounded = None if expected is self.reference else expected
            if expected is None and not self.notes:
                self.notes.append("constant tolerances decide, because no exact result of its rounding is known here")
        self.yardstick = expected.yardstick(*size) if expected and (profile.rounds or profile.exact) else None
        self.check_yardstick()

    def check_yardstick(self) -> None:
        """Require that the exact result and the original agree by and large: neither may be wrong."""
        if self.yardstick is None:
            return
        for output, far in self.yardstick.distances.items():
            if not far <= MOST_DISTANT:
                message = (
                    f"{output}: {self.yardstick.source} is {far:.2g} of the output's magnitude away from the exact "
                    f"result, more than {MOST_DISTANT:g}: one of both is wrong, or the network is unstable"
                )
                self.fail("reference", message, output=output, excess=far / MOST_DISTANT)

    def compare_all(
        self, candidate: Candidate, runtime: Runtime, profile: Profile
    ) -> tuple[list[SampleComparison], dict[str, str]]:
        left_out = self.model.task.left_out(profile)
        size = runtime.declaration.sample_size(self.model)
        known = self.reference.answers(*size)
        not_run = set(left_out)
        # Only answers with the same rounded weights decide. Batches need all images, for different ones in each place.
        if self.rounded is not None and runtime.declaration.batch == 1:
            not_run |= self.reference.names(*size) - self.rounded.names(*size)
        answers = _Chosen(known, not_run)
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
        keeps = inside is None or any(name in outputs for name in expected)
        kept = [*expected] if keeps else []
        self.check_names([*(self.model.task.inside_outputs if inside else ()), *kept], outputs, names[0])
        if not keeps and (heads := self.heads_inside(runtime, feed)):
            outputs, keeps = {**outputs, **heads}, True
        if self.rounded is None:
            decides = STRICT if self.yardstick is not None else profile
            return [self.comparison(group, outputs, decides, inside, keeps=keeps)]
        self.cost.append(self.comparison(group, outputs, profile, inside, keeps=keeps, judged=False))
        if isinstance(self.rounded, RoundedReference) and self.rounded.tensors:
            return self.follow(runtime, feed, group, outputs, profile, keeps=keeps)
        places = [(place, answer) for place, item in enumerate(group) if (answer := self.rounded_answer(item))]
        if not places:
            return []
        answers = [answer for _, answer in places]
        if answers[0].sample.is_pictured:
            chosen = [place for place, _ in places]
            outputs = {name: array[chosen] if array.ndim else array for name, array in outputs.items()}
        return [self.comparison(answers, outputs, STRICT, inside, keeps=keeps)]

    def heads_inside(self, runtime: Runtime, feed: Feed) -> Outputs:
        """Return the task's outputs inside a file that gives results alone: small errors of boxes show there only.

        They come from a run of their own, which may fuse less. Returns nothing if the runtime does not show them.
        """
        names = self.model.output_names
        try:
            shown = run_all(runtime, feed, lambda images: runtime.tensors(images, names))
        except ArtifactError as error:
            self.skipped[HEADS] = str(error)
            return {}
        return {name: shown[name] for name in names}

    def follow(
        self,
        runtime: Runtime,
        feed: Feed,
        group: Sequence[Answer],
        outputs: Outputs,
        profile: Profile,
        *,
        keeps: bool,
    ) -> list[SampleComparison]:
        """Compare a network whose tensors are rounded to levels: exactly, from the levels that the runtime chose.

        The runtime shows its levels in a run of their own, which may fuse less. The outputs of the run itself may
        differ from it by single levels: they have the tolerances of the precision, in each place of a batch.
        """
        assert isinstance(self.rounded, RoundedReference)  # the caller checks it
        comparisons: list[SampleComparison] = []
        inside = runtime.declaration.faces
        heads = self.model.output_names if keeps else ()
        shown: Outputs | None = None
        for number, item in enumerate(group):
            name, size = item.sample.name, item.sample.image_size
            if name not in (OTHER, OTHER_TENSORS) and name not in self.rounded.names(*size):
                continue
            key = (item.sample.name, number if item.sample.name == OTHER else 0)
            if key not in self.followed:
                try:
                    shown = shown if shown is not None else runtime.tensors(feed, {*self.rounded.tensors, *heads})
                except ArtifactError as error:
                    self.fail("rounding", str(error), sample=item.sample.name)
                    return comparisons
                answer, layer, share = self.rounded.follow(item, feed, number, shown)
                self.judge_levels(layer, share, item.sample.name)
                self.followed[key] = answer
                alone = {name: _place(shown[name], number, item) for name in outputs}
                comparisons.append(self.comparison([answer], alone, STRICT, inside, keeps=keeps))
            alone = {name: _place(array, number, item) for name, array in outputs.items()}
            by_levels = self.comparison([self.followed[key]], alone, profile, inside, keeps=keeps, exactly=False)
            self.cost.append(replace(by_levels, by_levels=True))
        return comparisons

    def judge_levels(self, layer: str, share: float, sample: str) -> None:
        if not share <= 1:
            message = (
                f"{layer}: an input is rounded to a level {share:.3g} times as far beyond the nearest one as the last "
                "bits of float32 explain"
            )
            self.fail("rounding", message, sample=sample, excess=share)

    def unstable(self, samples: Sequence[str]) -> set[str]:
        """Return the outputs that prove nothing on one of these samples, and note it."""
        if self.yardstick is None:
            return set()
        outputs = {name for name, where in self.yardstick.unstable.items() if not set(where).isdisjoint(samples)}
        for sample in samples if outputs else ():
            self.skipped[sample] = (
                f"rounding decides {', '.join(sorted(outputs))} there: {self.yardstick.source} itself differs from the "
                f"exact result by more than {MOST_DISTANT:g} of its magnitude"
            )
        return outputs

    def rounded_answer(self, item: Answer) -> Answer | None:
        """Return the answer with rounded weights to a sample, if there is one."""
        assert self.rounded is not None  # the caller checks it
        sample = item.sample
        if sample.name == OTHER_TENSORS and not isinstance(sample.feed, np.ndarray):
            return self.rounded.at_shapes({name: array.shape for name, array in sample.feed.items()})
        answer = self.rounded.answer(sample.name, *sample.image_size)
        if answer is None or not sample.is_pictured:
            return answer
        return next((one for one in answer.split() if np.array_equal(one.sample.images, sample.images)), None)

    def comparison(
        self,
        group: Sequence[Answer],
        outputs: Outputs,
        profile: Profile,
        inside: Inside | None,
        *,
        keeps: bool,
        judged: bool = True,
        exactly: bool = True,
    ) -> SampleComparison:
        """Compare the outputs with the expected ones of a batch.

        If it is not `judged`, only what cannot be compared is a failure. Unless it is compared `exactly`, the profile's
        tolerances apply.
        """
        names = tuple(answer.sample.name for answer in group)
        _, expected = _together(group)
        is_exact = all(answer.exact for answer in group)
        yardstick = self.yardstick if judged and exactly else None
        measure = _Measure(self.model, self.rules.overrides, profile, yardstick, is_exact)
        unstable = self.unstable(names) if judged else set()
        tensors = tuple(
            measure.compare(name, array, outputs.get(name))
            for name, array in (expected.items() if keeps else ())
            if name not in unstable or name not in outputs
        )
        for tensor in tensors:
            if judged or tensor.problem:
                self.judge_tensor(tensor, names)
        size = group[0].sample.image_size
        results = self.compare_results(expected, outputs, names, size, measure, inside)
        if self.model.task.comparison is DetectionComparison:
            return SampleComparison(names[0], names, tensors, results, exact=is_exact)
        return SampleComparison(names[0], names, tensors, (), results=results, exact=is_exact)

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
        if tensor.first_beyond is None and tensor.mean is not None and tensor.mean_limit is not None:
            message = f"{tensor.output}: off by {tensor.mean:.2e} on average, {tensor.mean_limit:.2e} allowed"
            excess = tensor.mean / tensor.mean_limit if tensor.mean_limit else math.inf
            self.fail("tensor", message, sample=images[0], output=tensor.output, excess=excess)
            return
        excess = tensor.required_atol / tensor.atol if tensor.atol else math.inf
        message = (
            f"{tensor.output}: {self.how_far(tensor)}off by {tensor.largest:.2e} at {tensor.worst}, first beyond the "
            f"tolerance at {tensor.first_beyond}; needs atol {tensor.required_atol:.2e}, has {tensor.atol:.3g}"
            + (f" + {tensor.rtol:g} |expected|" if tensor.rtol else "")
        )
        sample = images[tensor.worst[0]] if tensor.worst and tensor.worst[0] < len(images) else images[0]
        self.fail("tensor", message, sample=sample, output=tensor.output, excess=excess)

    def how_far(self, tensor: TensorComparison) -> str:
        """Return the distance from the exact result as the beginning of a message; "" if a tolerance decides."""
        if tensor.times is None or tensor.times_limit is None or self.yardstick is None:
            return ""
        is_measure = self.yardstick.distances.get(tensor.output, 0.0) >= UNIT
        measure = self.yardstick.source if is_measure else FEW_STEPS
        times = f"{tensor.times:,.{0 if tensor.times >= 10 else 1}f}"  # two digits
        return f"{times} times as far from the exact result as {measure}, {tensor.times_limit:g} allowed; "

    def compare_results(
        self,
        expected: Outputs,
        outputs: Outputs,
        images: Sequence[str],
        size: Size,
        measure: _Measure,
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
        allowed = {name: measure.of_results(name, array) for name, array in expected.items()}
        if top_k and any(len(result) >= top_k for result in original):
            # The limit leaves out detections that are certain.
            return task.compare(original, results, measure.profile, allowed.__getitem__)
        certainties = self.certainties(task, images, expected, size, measure.profile, allowed)
        chosen = task.as_chosen(original, results, certainties, measure.profile)
        compared = task.compare(chosen, results, measure.profile, allowed.__getitem__)
        return task.without_open(compared, certainties, measure.profile)

    def certainties(
        self,
        task: Task,
        images: Sequence[str],
        expected: Outputs,
        size: Size,
        profile: Profile,
        allowed: Mapping[str, Tolerance],
    ) -> tuple[Certainty, ...]:
        """Return what is certain about the results, computed once for all artifacts."""
        key = (str(task), tuple(images), size, tuple(allowed.values()), profile.name)
        if key not in self.known:
            self.known[key] = task.certainties(expected, size, profile, allowed.__getitem__)
        return self.known[key]

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
        decided = [image for image in images if image.certain is not None]
        times = [tensor.times for item in comparisons for tensor in item.tensors]
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
            rounded=self.rounded is not None,
            cost=tuple(self.cost),
            remarks=tuple(self.notes),
            times=max((far for far in times if far is not None), default=None),
            certain=sum(image.certain or 0 for image in decided) if decided else None,
            excluded=sum(image.excluded for image in decided),
            undecided=sum(image.undecided for image in decided),
        )


@dataclass(frozen=True)
class _Measure:
    """The tolerances of one comparison: by the yardstick, if there is one, otherwise by the profile."""

    model: ModelSpec
    overrides: Overrides
    profile: Profile
    yardstick: Yardstick | None
    exact: bool

    def compare(self, output: str, expected: Array, actual: Array | None) -> TensorComparison:
        compared = compare_tensor(output, expected, actual, self.tolerance(output, expected))
        if actual is None or compared.problem or not self.exact or self.yardstick is None:
            return compared
        saturates = output in self.model.task.probability_outputs()
        times = self.yardstick.times(output, expected, actual, saturates=saturates)
        return replace(compared, times=times, times_limit=FACTOR if self.by_yardstick(output) else None)

    def by_yardstick(self, output: str) -> bool:
        return self.yardstick is not None and not {"", output} & self.overrides.atol.keys()

    def tolerance(self, output: str, expected: Array) -> Tolerance:
        """Return the tolerance of an output. Its absolute part is relative to the range of a tensor of any scale."""
        tolerance = self.overrides.tolerance(self.profile, output)
        if {"", output} & self.overrides.atol.keys():
            return tolerance
        if self.yardstick is not None:
            saturates = output in self.model.task.probability_outputs()
            return self.yardstick.tolerance(output, expected, saturates=saturates, exact=self.exact)
        scale = magnitude(expected)
        if self.model.takes_image:
            scale = self.model.task.scale_of(output, expected, self.profile)
        return Tolerance(tolerance.atol * scale, tolerance.rtol)

    def of_results(self, output: str, expected: Array) -> Tolerance:
        """Return the tolerance of the results that come from an output."""
        if self.by_yardstick(output):
            return self.tolerance(output, expected)
        return self.model.task.result_tolerance(self.overrides.tolerance(self.profile, output), expected)


def _place(array: Array, number: int, item: Answer) -> Array:
    """Return the output of one image of a batch. Tensors are one answer."""
    return array[number : number + 1] if item.sample.is_pictured else array


def _yardsticks(model: ModelSpec, reference: Reference, artifacts: Iterable[ArtifactReport]) -> tuple[Yardstick, ...]:
    sizes = {artifact.declaration.sample_size(model) for artifact in artifacts}
    return tuple(filter(None, (reference.yardstick(*size) for size in sorted(sizes))))


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
    yield from artifact.remarks
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
