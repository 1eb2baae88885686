"""The base class of all tasks. A task gives the meaning of a network's outputs.

A task is one module in this package, or one that an installed distribution names in the entry point group
`sshtool.extensions`. Its class derives from `Task` and registers under the `kind` that a model's TOML gives:

    @TASKS.register("brightness")
    class Brightness(Task):
        kind: Literal["brightness"]
        output: TensorName

        def outputs(self) -> tuple[str, ...]:
            return (self.output,)

        def decode(self, outputs: Outputs, image_size: Size) -> list[float]:
            return outputs[self.output].mean(axis=(1, 2, 3)).tolist()

The fields are the table `[task]` of the TOML. A task whose results are `Detections` derives from `DetectionTask`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import UsageError
from sshconvert.onnx.model import OnnxModel
from sshconvert.schema import Strict
from sshconvert.tasks.certainty import Certainty
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.results import Box
from sshconvert.tasks.tolerances import Profile, Tolerance


class Task(Strict, ABC):
    """The meaning of a network's outputs. All methods except `outputs` and `decode` have a default."""

    kind: str

    quality_measure: ClassVar[str] = ""  # the name of the figure that `quality` returns
    pipeline_tag: ClassVar[str] = ""  # Hugging Face's name of the task
    verb: ClassVar[str] = ""  # the command that shows the results on images
    comparison: ClassVar[type[Any]] = DetectionComparison  # of an image; its field `problem` has a default

    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs that the task reads, in the network's order."""

    @abstractmethod
    def decode(self, outputs: Outputs, image_size: Size) -> list[Any]:
        """Return the result of each image of a batch. Raises DetectionError for outputs that do not fit the task."""

    @property
    def inside_outputs(self) -> tuple[str, ...]:
        """The outputs of a file with the post-processing inside."""
        return ()

    # --- conversion ---------------------------------------------------------------------------------------------------

    def append_to(self, model: OnnxModel, *, input_name: str, top_k: int, keep_heads: bool) -> OnnxModel:
        """Return the network with the decoding inside. Raises UsageError if the task has none."""
        raise UsageError(f"--postprocess: the task {self.kind} has no post-processing for a network; omit the option")

    def with_thresholds(self, score: float | None = None, iou: float | None = None) -> Task:
        """Return the task with other thresholds. Raises UsageError if it has none."""
        if score is not None or iou is not None:
            raise UsageError(f"the task {self.kind} has no thresholds; omit them")
        return self

    def metadata(self) -> dict[str, str]:
        """Return the task's entries for the metadata of an artifact."""
        return {}

    # --- comparison ---------------------------------------------------------------------------------------------------

    def decode_inside(self, outputs: Outputs) -> list[Any]:
        """Return the results of a file with the post-processing inside. Raises DetectionError for other outputs."""
        raise UsageError(f"the task {self.kind} has no post-processing inside")

    def problems_inside(self, expected: Outputs, actual: Outputs, inside: Inside) -> Sequence[Discrepancy]:
        """Return the problems of the outputs `actual` of a file with the post-processing inside.

        `expected` are the original's outputs, from which the sizes follow.
        """
        return ()

    def compare(
        self, expected: Sequence[Any], actual: Sequence[Any], profile: Profile, allowed: Callable[[str], Tolerance]
    ) -> tuple[Any, ...]:
        """Compare the results of each image. `allowed` returns the tolerance of an output.

        If a task does not override this method, verification only compares the outputs.
        """
        return ()

    def certainties(
        self, expected: Outputs, image_size: Size, profile: Profile, allowed: Callable[[str], Tolerance]
    ) -> tuple[Certainty, ...]:
        """Return what rounding may change in the results of each image; () if the task does not tell."""
        return ()

    def as_chosen(
        self, expected: Sequence[Any], actual: Sequence[Any], certainties: Sequence[Certainty], profile: Profile
    ) -> Sequence[Any]:
        """Return the expected results of each image, with what rounding decides as the results `actual` have it."""
        return expected

    def without_open(
        self, compared: Sequence[Any], certainties: Sequence[Certainty], profile: Profile
    ) -> tuple[Any, ...]:
        """Return the comparisons of `compare` without the differences that rounding decides."""
        return tuple(compared)

    def judge(self, compared: Sequence[tuple[str, Any]], profile: Profile) -> Iterator[Discrepancy]:
        """Yield the differences that are too large over all samples: pairs of a sample and an image's comparison."""
        yield from ()

    def figures(self, compared: Sequence[Any]) -> dict[str, str]:
        """Return the result of each of the task's checks in words, for the reports of other results than detections."""
        return {}

    def words(self, outputs: Outputs, image_size: Size) -> list[str]:
        """Return each image's result in words, for the reports of other results than detections."""
        return []

    def left_out(self, profile: Profile) -> Mapping[str, str]:
        """Return the samples that are not compared in a profile, and why."""
        return profile.left_out

    def has_own_scale(self) -> bool:
        """Whether outputs have any scale. The absolute part of their tolerance is then relative to their range."""
        return False

    def scale_of(self, output: str, expected: Array, profile: Profile) -> float:  # for other tasks
        """Return the factor of the absolute part of an output's tolerance."""
        return float(np.abs(expected).max(initial=0)) if self.has_own_scale() else 1.0

    def rows(self, outputs: Outputs, image_size: Size, digits: int | None = 4) -> list[tuple[Box, ...]]:
        """Return the result of each image for reports: boxes with scores, rounded; None keeps all digits.

        Raises DetectionError for outputs that do not fit the task.
        """
        return [() for _ in next(iter(outputs.values()))]

    def count(self, results: Iterable[Any]) -> int:
        """Return the number of items in the results, in which a wrong decoding shows."""
        return 0

    def for_quality(self) -> Task:
        """Return the task that decodes results for `quality`."""
        return self

    def truths(self, results: Iterable[Any]) -> Sequence[Any]:
        """Return ground truth made from FP32's results, for data without ground truth."""
        raise NotImplementedError  # only for tasks with a `quality_measure`

    def quality(self, results: Sequence[Any], truths: Sequence[Any]) -> float:
        """Return the `quality_measure` of results, 0-1."""
        raise NotImplementedError  # only for tasks with a `quality_measure`

    def faults(self) -> tuple[Fault, ...]:
        """Return the task's own faults for the self-test, beside those of any network."""
        return ()

    def linear_outputs(self) -> tuple[str, ...]:
        """Return the outputs without a softmax or sigmoid, in which the bias of the last convolution shows."""
        return self.outputs()

    def probability_outputs(self) -> tuple[str, ...]:
        """Return the outputs of a softmax or sigmoid, whose errors shrink towards 0 and 1."""
        return ()

    def result_tolerance(self, tolerance: Tolerance, expected: Array) -> Tolerance:
        """Return the tolerance of results from that of an output's profile."""
        return tolerance

    # --- packages -----------------------------------------------------------------------------------------------------

    def meaning(self, output: str) -> str:
        """Return the meaning of an output for the model card, or ""."""
        return ""

    def card(self, inside: Inside | None) -> str:
        """Return the model card's paragraph about the outputs."""
        return ""

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        """Return a title and Python lines that decode `outputs`, a list of arrays, or None."""
        return None
