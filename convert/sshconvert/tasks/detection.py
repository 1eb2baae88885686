"""The base of the tasks whose results are `Detections`: thresholds, suppression, comparison and quality."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np

from sshconvert.arrays import Array, Flags, Indices
from sshconvert.boxes import suppress
from sshconvert.errors import DetectionError, UsageError
from sshconvert.schema import Share
from sshconvert.tasks import inside
from sshconvert.tasks.average_precision import average_precision
from sshconvert.tasks.base import Task
from sshconvert.tasks.certainty import Certainty, Suppression, decide, score_errors
from sshconvert.tasks.comparison import DetectionComparison, Thresholds, compare_detections
from sshconvert.tasks.detection_faults import image_faults, inside_faults, threshold_faults
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Discrepancy, ImageComparison, judge_detections
from sshconvert.tasks.inside import ATTRIBUTES, LANDMARKS, Columns, Inside, OutputForm, in_form
from sshconvert.tasks.made_up import Canvas, Easel, Limits, MadeUp, made_up
from sshconvert.tasks.results import Box, Detections
from sshconvert.tasks.tolerances import Profile, Tolerance

LOWEST: Final = 0.05  # the least score of detections whose average precision is measured
THRESHOLD: Final = 0.5  # the least score of detections in pictures, and of FP32's detections as ground truth

_USAGE: Final = """\
boxes, scores, count = (output[0] for output in outputs[:3])
{noun}s = np.column_stack([boxes, scores])[:count]  # x1, y1, x2, y2, score
print({noun}s)"""

_MODEL_API_USAGE: Final = """\
boxes, labels = (output[0] for output in outputs[:2])
count = np.count_nonzero(boxes[:, 4])
{noun}s = boxes[:count]  # x1, y1, x2, y2, score
print({noun}s)"""


class DetectionTask(Task):
    """Detection of objects, by a score threshold and suppression of boxes that overlap a better one."""

    labels: tuple[str, ...] = ("face",)
    score_threshold: Share
    iou_threshold: Share

    checks: ClassVar[tuple[str, ...]] = (
        "detections",
        "excused",
        "corners",
        "scores",
        "landmarks",
        "attributes",
        inside.CHECK,
        inside.POSTPROCESSING,
    )
    pipeline_tag: ClassVar[str] = "object-detection"
    quality_measure: ClassVar[str] = "AP@0.5"
    verb: ClassVar[str] = "detect"
    last_pixel: ClassVar[int] = 1  # 1 if boxes include their corner pixels: a width is x2 - x1 + last_pixel
    suppresses_equal: ClassVar[bool] = True  # whether an overlap equal to the threshold suppresses
    clips_last: ClassVar[bool] = False  # whether boxes are clipped after the suppression, not before

    @property
    def noun(self) -> str:
        """The word for one detection."""
        return self.labels[0] if len(self.labels) == 1 else "object"

    @property
    def columns(self) -> Columns:
        """The landmarks and attributes of each detection."""
        return Columns()

    @property
    def inside_outputs(self) -> tuple[str, ...]:
        return self.columns.outputs

    @abstractmethod
    def candidates(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        """Return the candidates of each image for `select`, clipped to the image unless the task clips last.

        Raises DetectionError if an output is missing or its shape does not fit the task.
        """

    def require_outputs(self, outputs: Outputs) -> None:
        """Raise DetectionError for a missing tensor."""
        names = self.outputs()
        if missing := [name for name in names if name not in outputs]:
            raise DetectionError(f"the outputs {', '.join(missing)} are missing; give all of {', '.join(names)}")

    def by_image(self, outputs: Outputs) -> list[Outputs]:
        """Return the task's tensors of each image of a batch, whose shapes fit."""
        names = self.outputs()
        return [{name: outputs[name][index] for name in names} for index in range(len(outputs[names[0]]))]

    @abstractmethod
    def score_outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs that hold scores."""

    def attribute_outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs that hold attributes."""
        return ()

    @abstractmethod
    def most_candidates(self, outputs: Outputs) -> int:
        """Return the largest number of candidates of an image, for outputs of this size."""

    def by_stride(self, outputs: Outputs, most: int) -> list[list[Detections]]:
        """Return the `most` best candidates of each image and stride, best first, unclipped and without a threshold.

        Open Model Zoo's protocol suppresses each stride alone. Raises UsageError if the task has no strides.
        """
        raise UsageError(f"--protocol omz needs strides of anchors, the task {self.kind} has none; use wider")

    def without_coarsest(self) -> Self:
        """Return the task without its largest stride, which upstream omits at the largest scale of its pyramid."""
        return self

    def decode(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        """Return the detections of each image, best first. Raises DetectionError for outputs that do not fit."""
        results = [self.select(image) for image in self.candidates(outputs, image_size)]
        return [result.clipped(image_size, self.last_pixel) for result in results] if self.clips_last else results

    def select(self, candidates: Detections) -> Detections:
        """Return the detections among the candidates of one image, possibly of several scales; best first."""
        # A box suppresses only boxes with lower scores, so the threshold may be applied before the suppression.
        best = candidates.from_score(self.score_threshold).best_first()
        return best[self._kept(best)]

    def _kept(self, best: Detections) -> Indices:
        """Return the ascending indices of the detections that stay. Only boxes of one class suppress each other."""
        classes = best.class_ids if best.class_ids is not None else np.zeros(len(best), np.intp)
        groups = [np.flatnonzero(classes == number) for number in np.unique(classes)]
        kept = [
            group[
                suppress(
                    best.boxes[group],
                    self.iou_threshold,
                    inclusive=self.suppresses_equal,
                    last_pixel=self.last_pixel,
                )
            ]
            for group in groups
        ]
        return np.sort(np.concatenate([np.zeros(0, np.intp), *kept]))

    def with_thresholds(self, score: float | None = None, iou: float | None = None) -> Self:
        thresholds = {"score_threshold": score, "iou_threshold": iou}
        return self.model_copy(update={name: value for name, value in thresholds.items() if value is not None})

    def for_display(self, threshold: float | None, *, dropped_by: str = "upstream") -> Self:
        """Return the task with a higher score threshold, by default `THRESHOLD`. Raises UsageError for a lower one."""
        least = self.score_threshold
        threshold = max(THRESHOLD, least) if threshold is None else threshold
        if not least <= threshold <= 1:
            raise UsageError(
                f"--threshold: {threshold:g} is not between {least:g} and 1; {dropped_by} drops scores below {least:g}"
            )
        return self.with_thresholds(threshold)

    def decode_inside(self, outputs: Outputs) -> list[Detections]:
        return inside.detections_of(outputs, self.columns)

    def problems_inside(self, expected: Outputs, actual: Outputs, declared: Inside) -> Sequence[Discrepancy]:
        images = len(next(iter(expected.values())))
        most = min(declared.top_k, self.most_candidates(expected))
        return inside.problems(actual, images=images, most=most, inside=declared, noun=self.noun, columns=self.columns)

    def canvases(self, shapes: Mapping[str, Sequence[int]]) -> Sequence[Canvas]:
        """Return the heads to fill with made-up candidates, for outputs of these shapes without the batch.

        A task without them has no test of its post-processing apart from the network.
        """
        return ()

    @property
    def stride_limit(self) -> int | None:
        """The largest number of candidates that each stride keeps, None for all."""
        return None

    def made_up(
        self, shapes: Mapping[str, Sequence[int]], image_size: Size, top_k: int, random: Any
    ) -> Iterator[MadeUp]:
        """Yield made-up tensors of the heads, for outputs of these shapes without the batch (`tasks.made_up`)."""
        limits = Limits(self.score_threshold, self.iou_threshold, top_k, self.stride_limit)
        if canvases := self.canvases(shapes):
            yield from made_up(Easel(canvases, image_size, limits, self.last_pixel, self.clips_last, random))

    def compare(
        self,
        expected: Sequence[Detections],
        actual: Sequence[Detections],
        profile: Profile,
        allowed: Callable[[str], Tolerance],
    ) -> tuple[DetectionComparison, ...]:
        scores = _widest(map(allowed, self.score_outputs()))
        attributes = _widest(map(allowed, self.attribute_outputs()))
        thresholds = Thresholds(
            score=self.score_threshold,
            score_tolerance=scores.at(self.score_threshold),
            overlap=self.iou_threshold,
            overlap_tolerance=profile.suppression,
            last_pixel=self.last_pixel,
        )
        return tuple(
            compare_detections(
                original,
                other,
                overlap=profile.overlap,
                scores=scores,
                attributes=attributes,
                thresholds=thresholds,
            )
            for original, other in zip(expected, actual, strict=True)
        )

    def possible(self, outputs: Outputs, image_size: Size, tolerance: Tolerance) -> list[tuple[Detections, Flags]]:
        """Return each image's candidates that may be above the threshold, and which no limit may leave out."""
        return [(image, np.ones(len(image), bool)) for image in self.below(tolerance).candidates(outputs, image_size)]

    def below(self, tolerance: Tolerance) -> Self:
        """Return the task with the least score that may be above the threshold."""
        error = float(tolerance.at(self.score_threshold))
        return self.with_thresholds(score=max(self.score_threshold - error, float(np.finfo(np.float32).eps)))

    def certainties(
        self, expected: Outputs, image_size: Size, profile: Profile, allowed: Callable[[str], Tolerance]
    ) -> tuple[Certainty, ...]:
        if not profile.certain:
            return ()
        scores = _widest(map(allowed, self.score_outputs()))
        rule = Suppression(self.score_threshold, self.iou_threshold, profile.suppression, self.last_pixel)
        images = []
        for candidates, sure in self.possible(expected, image_size, scores):
            certain, excluded = decide(candidates, sure, score_errors(candidates.scores, scores), rule)
            undecided = candidates[~(certain | excluded)]
            if self.clips_last:
                undecided = undecided.clipped(image_size, self.last_pixel)
            images.append(Certainty(int(certain.sum()), int(excluded.sum()), undecided))
        return tuple(images)

    def as_chosen(
        self,
        expected: Sequence[Detections],
        actual: Sequence[Detections],
        certainties: Sequence[Certainty],
        profile: Profile,
    ) -> Sequence[Detections]:
        if not certainties:
            return expected
        limits = {"overlap": profile.overlap, "corner": profile.corner}
        return [
            certainty.chosen(original, other, **limits)
            for original, other, certainty in zip(expected, actual, certainties, strict=True)
        ]

    def without_open(
        self, compared: Sequence[DetectionComparison], certainties: Sequence[Certainty], profile: Profile
    ) -> tuple[DetectionComparison, ...]:
        if not certainties:
            return tuple(compared)
        return tuple(
            image.without(certainty, profile.overlap, strict=profile.strict)
            for image, certainty in zip(compared, certainties, strict=True)
        )

    def judge(self, compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Discrepancy]:
        return judge_detections(compared, profile)

    def rows(self, outputs: Outputs, image_size: Size, digits: int | None = 4) -> list[tuple[Box, ...]]:
        return [detections.rows(digits) for detections in self.decode(outputs, image_size)]

    def count(self, results: Iterable[Detections]) -> int:
        return sum(map(len, results))

    def for_quality(self) -> Self:
        """Return the task with a low score threshold, because average precision counts detections of all scores."""
        return self.with_thresholds(min(self.score_threshold, LOWEST))

    def truths(self, results: Iterable[Detections]) -> list[Array]:
        """Return the boxes of FP32's detections as ground truth: [M, 4] for each image."""
        return [result.from_score(THRESHOLD).boxes for result in results]

    def quality(self, results: Sequence[Detections], truths: Sequence[Array]) -> float:
        return average_precision(results, truths)

    def faults(self) -> tuple[Fault, ...]:
        return (
            *inside_faults(self.noun),
            *threshold_faults(self.score_threshold, self.iou_threshold),
            *image_faults(self.noun, self.last_pixel),
        )

    def meaning(self, output: str) -> str:
        return {
            inside.BOXES: f": x1, y1, x2, y2 of each {self.noun}",
            inside.SCORES: ": from 0 to 1",
            inside.LABELS: f": 0 for each {self.noun}, the number of the label",
            inside.COUNT: f": how many of the boxes are {self.noun}s",
            inside.LANDMARKS: f": x and y of the {self.columns.points} landmarks of each {self.noun}",
            inside.ATTRIBUTES: f": from 0 to 1, {', '.join(self.columns.attributes)}",
        }.get(output, "")

    def card(self, declared: Inside | None) -> str:
        if declared is None:
            return ""
        is_plain = declared.form is OutputForm.PLAIN
        rows = f"The rows after the `count` {self.noun}s are\nzeros" if is_plain else "Empty rows are\nzeros"
        return (
            f"Boxes are x1, y1, x2, y2{'' if is_plain else ', score'} in pixels of the input,"
            f"{' corner pixels included,' if self.last_pixel else ''} the best first. {rows}. The model drops scores "
            f"below {declared.score_threshold}, and suppresses boxes that overlap a better one by "
            f"{'' if self.suppresses_equal else 'more than '}{declared.iou_threshold}"
            f"{' or more' if self.suppresses_equal else ''}."
            f"{' Landmarks are in the same pixels, and may lie outside the image.' if self.columns.points else ''}"
        )

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        return self.usage_inside(OutputForm.PLAIN) if inside else None

    def usage_inside(self, form: OutputForm) -> tuple[str, str]:
        """Return the title and the Python lines of `usage` for outputs in a form."""
        lines = [(_USAGE if form is OutputForm.PLAIN else _MODEL_API_USAGE).format(noun=self.noun)]
        names = in_form(self.columns.outputs, form)
        for number, name in enumerate(names):
            if name not in (LANDMARKS, ATTRIBUTES):
                continue
            meaning = "x, y" if name == LANDMARKS else ", ".join(self.columns.attributes)
            lines.append(f"print(outputs[{number}][0, :count])  # {name} of each {self.noun}: {meaning}")
        return f"From the outputs to {self.noun}s", "\n".join(lines)


def _widest(limits: Iterable[Tolerance]) -> Tolerance:
    """Return the largest of tolerances, each part by itself."""
    several = list(limits)
    return Tolerance(
        max((limit.atol for limit in several), default=0),
        max((limit.rtol for limit in several), default=0),
        max((limit.floor for limit in several), default=0),
        bool(several) and all(limit.saturates for limit in several),
    )


def detection_task(model: str, task: Task) -> DetectionTask:
    """Return the task of a model if its results are detections. Raises UsageError otherwise."""
    if not isinstance(task, DetectionTask):
        remedy = f"use `sshtool {task.verb}`" if task.verb else "choose another --model"
        raise UsageError(f"{model}: has the task {task.kind}, which detects nothing; {remedy}")
    return task
