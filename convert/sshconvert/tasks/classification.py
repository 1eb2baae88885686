"""Classification: scores of classes for each image, and the k best of them.

An output holds probabilities if the network ends in a softmax (MXNet's `SoftmaxOutput`), else logits, which a softmax
turns into probabilities here. Classes are numbered from 0, in the order of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import pydantic

from sshconvert.arrays import Array
from sshconvert.schema import Positive, TensorName
from sshconvert.tasks.base import Task
from sshconvert.tasks.comparison import ClassComparison, compare_scores
from sshconvert.tasks.embedding import rows_of
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Discrepancy, class_figures, judge_classes
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.recognition_faults import classification_faults
from sshconvert.tasks.registry import TASKS
from sshconvert.tasks.results import Scores
from sshconvert.tasks.tolerances import Profile, Tolerance, magnitude

Label = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=200)]
Kept = Annotated[float, pydantic.Field(gt=0, le=1)]

TOP: Final = 5

_PROBABILITIES: Final = "probabilities = outputs[0][0]\n"
_LOGITS: Final = """\
logits = outputs[0][0]
probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
"""
_USAGE: Final = """\
for number in np.argsort(-probabilities)[:{top}]:  # the number of a class, from 0
    print(number, probabilities[number])"""


@TASKS.register("classification")
class Classification(Task):
    """One output [N, classes].

    `classes` is their number, or None for any. `probabilities`: the output holds them, otherwise logits. `top_k` is the
    number of best classes that count. `labels` names the classes, or is empty. `crop` is the share of the shorter side
    that the central crop keeps before the network's size: 224 of 256 pixels for ImageNet.
    """

    kind: Literal["classification"]
    output: TensorName
    classes: Positive | None = None
    probabilities: bool = True
    top_k: Positive = TOP
    labels: tuple[Label, ...] = ()
    crop: Kept = 0.875

    quality_measure: ClassVar[str] = "top-1 agreement"
    pipeline_tag: ClassVar[str] = "image-classification"
    verb: ClassVar[str] = "predict"
    comparison: ClassVar[type[Any]] = ClassComparison

    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    def has_own_scale(self) -> bool:
        return True

    def probability_outputs(self) -> tuple[str, ...]:
        return (self.output,) if self.probabilities else ()

    def result_tolerance(self, tolerance: Tolerance, expected: Array) -> Tolerance:
        return replace(tolerance, atol=tolerance.atol * magnitude(expected))

    def decode(self, outputs: Outputs, image_size: Size) -> list[Scores]:
        """Return the scores of each image. Raises DetectionError for outputs that do not fit.

        An output fits if it is finite, [N, classes] with a class for each label, and for probabilities not negative.
        """
        rows = rows_of(outputs, self.output, self.classes)
        return [Scores.of(row, self.labels, are_probabilities=self.probabilities) for row in rows]

    def compare(
        self,
        expected: Sequence[Scores],
        actual: Sequence[Scores],
        profile: Profile,
        allowed: Callable[[str], Tolerance],
    ) -> tuple[ClassComparison, ...]:
        tolerance = allowed(self.output)
        return tuple(compare_scores(*pair, self.top_k, tolerance) for pair in zip(expected, actual, strict=True))

    def judge(self, compared: Sequence[tuple[str, ClassComparison]], profile: Profile) -> Iterator[Discrepancy]:
        return judge_classes(compared, profile)

    def figures(self, compared: Sequence[ClassComparison]) -> dict[str, str]:
        return class_figures(compared, self.top_k)

    def words(self, outputs: Outputs, image_size: Size) -> list[str]:
        return [
            ", ".join(f"{result.label(number)} {result.values[number]:.3f}" for number in result.best(self.top_k))
            for result in self.decode(outputs, image_size)
        ]

    def count(self, results: Iterable[Scores]) -> int:
        return sum(bool(np.ptp(result.values) > 0) for result in results)

    def truths(self, results: Iterable[Scores]) -> list[Scores]:
        """Return FP32's scores."""
        return list(results)

    def quality(self, results: Sequence[Scores], truths: Sequence[Scores]) -> float:
        """Return the share of images with FP32's best class."""
        agreeing = [one.best(1)[0] == other.best(1)[0] for one, other in zip(results, truths, strict=True)]
        return float(np.mean(agreeing))

    def faults(self) -> tuple[Fault, ...]:
        return classification_faults(self.output, are_probabilities=self.probabilities)

    def meaning(self, output: str) -> str:
        values = "probabilities" if self.probabilities else "logits"
        return f": {values} of the classes, in their order" if output == self.output else ""

    def card(self, inside: Inside | None) -> str:
        values = "probabilities" if self.probabilities else "logits; a softmax turns them into probabilities"
        names = f" Classes: {', '.join(self.labels)}." if 0 < len(self.labels) <= 20 else ""
        return (
            f"Scores are {values}. Classes are numbered from 0.{names} The published preprocessing resizes the "
            f"shorter side to 1/{self.crop:g} of the input's\nand crops the centre; the examples below stretch the "
            "image."
        )

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        first = _PROBABILITIES if self.probabilities else _LOGITS
        return "From the output to the best classes", first + _USAGE.format(top=self.top_k)
