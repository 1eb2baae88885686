"""The base of the tasks whose results are `Detections`: thresholds, suppression, comparison and quality."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Final, Self

from sshconvert.arrays import Array
from sshconvert.boxes import suppress
from sshconvert.errors import UsageError
from sshconvert.schema import Share
from sshconvert.tasks import inside
from sshconvert.tasks.average_precision import average_precision
from sshconvert.tasks.base import Task
from sshconvert.tasks.comparison import DetectionComparison, Thresholds, compare_detections
from sshconvert.tasks.detection_faults import image_faults, inside_faults, threshold_faults
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Finding, ImageComparison, judge_detections
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.results import Box, Detections
from sshconvert.tasks.tolerances import Profile, Tolerance

THRESHOLD: Final = 0.5  # the score from which on a person sees a detection, and FP32's counts as true

_USAGE: Final = """\
boxes, scores, count = (output[0] for output in outputs[:3])
{noun}s = np.column_stack([boxes, scores])[:count]  # x1, y1, x2, y2, score
print({noun}s)"""


class DetectionTask(Task):
    """Finds objects. Candidates below the score threshold go, and those that overlap a better one too much."""

    labels: tuple[str, ...] = ("face",)
    score_threshold: Share
    iou_threshold: Share

    checks: ClassVar[tuple[str, ...]] = ("detections", "excused", "corners", "scores", inside.CHECK)
    inside_outputs: ClassVar[tuple[str, ...]] = inside.OUTPUTS
    pipeline_tag: ClassVar[str] = "object-detection"
    quality_measure: ClassVar[str] = "AP@0.5"

    @property
    def noun(self) -> str:
        """One detection, in words."""
        return self.labels[0] if len(self.labels) == 1 else "object"

    @abstractmethod
    def candidates(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        """The candidates of each image that `select` chooses from, clipped to the image.

        Raises DetectionError if an output is missing or has a shape that does not belong to the task.
        """

    @abstractmethod
    def score_outputs(self) -> tuple[str, ...]:
        """Names of the outputs that hold scores."""

    @abstractmethod
    def most_candidates(self, outputs: Outputs) -> int:
        """The number of candidates of an image, for outputs of that size."""

    def by_stride(self, outputs: Outputs, most: int) -> list[list[Detections]]:
        """For each image and stride the candidates with the highest scores, best first; no threshold, not clipped.

        Open Model Zoo's protocol suppresses each stride alone. Raises UsageError where there are no strides.
        """
        raise UsageError(f"--protocol omz is for strides of anchors, the task {self.kind} has none; take wider")

    def without_coarsest(self) -> Self:
        """The task without its largest stride, which upstream leaves out of the largest scale of its pyramid."""
        return self

    def decode(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        """The detections of each image, best first. Raises DetectionError as `candidates` does."""
        return [self.select(image) for image in self.candidates(outputs, image_size)]

    def select(self, candidates: Detections) -> Detections:
        """The detections among the candidates of one image, perhaps of several scales; best first."""
        # A low score suppresses only lower ones: dropping it before the suppression or after it is the same.
        best = candidates.from_score(self.score_threshold).best_first()
        return best[suppress(best.boxes, self.iou_threshold)]

    def with_thresholds(self, score: float | None = None, iou: float | None = None) -> Self:
        given = {"score_threshold": score, "iou_threshold": iou}
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})

    def for_display(self, threshold: float | None, *, dropped_by: str = "upstream") -> Self:
        """The task with a higher score threshold, by default `THRESHOLD`. Raises UsageError for a lower one."""
        least = self.score_threshold
        threshold = max(THRESHOLD, least) if threshold is None else threshold
        if not least <= threshold <= 1:
            raise UsageError(
                f"--threshold: {threshold:g} is not between {least:g} and 1; {dropped_by} drops scores below {least:g}"
            )
        return self.with_thresholds(threshold)

    def decode_inside(self, outputs: Outputs) -> list[Detections]:
        return inside.detections_of(outputs)

    def problems_inside(self, expected: Outputs, found: Outputs, declared: Inside) -> Sequence[Finding]:
        images = len(next(iter(expected.values())))
        most = min(declared.top_k, self.most_candidates(expected))
        return inside.problems(found, images=images, most=most, inside=declared, noun=self.noun)

    def compare(
        self,
        expected: Sequence[Detections],
        found: Sequence[Detections],
        profile: Profile,
        allowed: Callable[[str], Tolerance],
    ) -> tuple[DetectionComparison, ...]:
        limits = [allowed(name) for name in self.score_outputs()]
        scores = Tolerance(max(limit.atol for limit in limits), max(limit.rtol for limit in limits))
        thresholds = Thresholds(
            score=self.score_threshold,
            score_tolerance=scores.at(self.score_threshold),
            overlap=self.iou_threshold,
            overlap_tolerance=profile.suppression,
        )
        return tuple(
            compare_detections(one, other, overlap=profile.overlap, scores=scores, thresholds=thresholds)
            for one, other in zip(expected, found, strict=True)
        )

    def judge(self, compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Finding]:
        return judge_detections(compared, profile)

    def rows(self, outputs: Outputs, image_size: Size, digits: int | None = 4) -> list[tuple[Box, ...]]:
        return [found.rows(digits) for found in self.decode(outputs, image_size)]

    def count(self, results: Iterable[Detections]) -> int:
        return sum(map(len, results))

    def truths(self, results: Iterable[Detections]) -> list[Array]:
        """The boxes, [M, 4] for each image, that stand for the truth where only FP32's results are known."""
        return [result.from_score(THRESHOLD).boxes for result in results]

    def quality(self, results: Sequence[Detections], truths: Sequence[Array]) -> float:
        """The figure of `quality_measure`, 0-1."""
        return average_precision(results, truths)

    def faults(self) -> tuple[Fault, ...]:
        return (*inside_faults(self.noun), *threshold_faults(), *image_faults(self.noun))

    def meaning(self, output: str) -> str:
        return {
            inside.BOXES: f": x1, y1, x2, y2 of each {self.noun}",
            inside.SCORES: ": from 0 to 1",
            inside.COUNT: f": how many of the boxes are {self.noun}s",
        }.get(output, "")

    def card(self, declared: Inside | None) -> str:
        if declared is None:
            return ""
        return (
            f"Boxes are x1, y1, x2, y2 in pixels of the input, corner pixels included, the best first; behind the last "
            f"of `count` {self.noun}s\nthere are zeros. Inside: a least score of {declared.score_threshold}, and "
            f"suppression from an overlap of {declared.iou_threshold} on."
        )

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        return (f"From the outputs to {self.noun}s", _USAGE.format(noun=self.noun)) if inside else None


def detection_task(model: str, task: Task) -> DetectionTask:
    """Return the task of a model if its results are detections. Raises UsageError otherwise."""
    if not isinstance(task, DetectionTask):
        raise UsageError(f"{model}: there is nothing to detect: its task is {task.kind}; choose another --model")
    return task
