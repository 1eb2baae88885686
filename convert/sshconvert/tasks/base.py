"""The base class of all tasks: what the outputs of a network mean.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from sshconvert.errors import UsageError
from sshconvert.onnx.model import OnnxModel
from sshconvert.schema import Strict
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Finding, ImageComparison
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.results import Box
from sshconvert.tasks.tolerances import Profile, Tolerance


class Task(Strict, ABC):
    """What the outputs of a network mean. Every method but `outputs` and `decode` has a default."""

    kind: str

    inside_outputs: ClassVar[tuple[str, ...]] = ()  # outputs of a file with the post-processing inside
    quality_measure: ClassVar[str] = ""  # the name of the figure that `quality` gives
    pipeline_tag: ClassVar[str] = ""  # Hugging Face's name of the task

    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the task reads, in the network's order."""

    @abstractmethod
    def decode(self, outputs: Outputs, image_size: Size) -> list[Any]:
        """The result of each image of a batch. Raises DetectionError for outputs that do not belong to the task."""

    # --- conversion ---------------------------------------------------------------------------------------------------

    def append_to(self, model: OnnxModel, *, input_name: str, top_k: int, keep_heads: bool) -> OnnxModel:
        """The network with the decoding inside. Raises UsageError where there is none to build in."""
        raise UsageError(f"--postprocess: the task {self.kind} has no post-processing that a network can do; leave it")

    def with_thresholds(self, score: float | None = None, iou: float | None = None) -> Task:
        """The task with other thresholds. Raises UsageError where it has none."""
        if score is not None or iou is not None:
            raise UsageError(f"the task {self.kind} has no thresholds; leave them out")
        return self

    def metadata(self) -> dict[str, str]:
        """Entries of the metadata of an artifact."""
        return {}

    # --- comparison ---------------------------------------------------------------------------------------------------

    def decode_inside(self, outputs: Outputs) -> list[Any]:
        """The results that a file with the post-processing inside gives. Raises DetectionError for other outputs."""
        raise UsageError(f"the task {self.kind} has no post-processing inside")

    def problems_inside(self, expected: Outputs, found: Outputs, inside: Inside) -> Sequence[Finding]:
        """All that is wrong with the outputs of a file with the post-processing inside, beside what is expected."""
        return ()

    def compare(
        self, expected: Sequence[Any], found: Sequence[Any], profile: Profile, allowed: Callable[[str], Tolerance]
    ) -> tuple[DetectionComparison, ...]:
        """Compare the results of images one by one; `allowed` gives the tolerance of an output.

        Without this method, verification compares the outputs tensor by tensor and decodes nothing.
        """
        return ()

    def judge(self, compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Finding]:
        """The differences that are too large, over all samples: (name of the sample, comparison of an image)."""
        yield from ()

    def rows(self, outputs: Outputs, image_size: Size, digits: int | None = 4) -> list[tuple[Box, ...]]:
        """The result of each image as reports list and draw it: boxes with scores, rounded; None keeps every digit.

        Raises DetectionError as `decode` does.
        """
        return [() for _ in next(iter(outputs.values()))]

    def count(self, results: Iterable[Any]) -> int:
        """How much there is in results that a wrong decoding could spoil."""
        return 0

    def truths(self, results: Iterable[Any]) -> Sequence[Any]:
        """What stands for the truth where only the results of FP32 are known."""
        raise NotImplementedError  # with `quality_measure` alone

    def quality(self, results: Sequence[Any], truths: Sequence[Any]) -> float:
        """How good results are, 0-1."""
        raise NotImplementedError  # with `quality_measure` alone

    def faults(self) -> tuple[Fault, ...]:
        """Faults of the self-test that concern this task alone, beside those of any network."""
        return ()

    def linear_outputs(self) -> tuple[str, ...]:
        """Outputs in which the bias of the last convolution shows: no softmax or sigmoid hides it."""
        return self.outputs()

    # --- packages -----------------------------------------------------------------------------------------------------

    def meaning(self, output: str) -> str:
        """What an output holds, for the model card; "" where the name says it all."""
        return ""

    def card(self, inside: Inside | None) -> str:
        """The model card's paragraph about the outputs."""
        return ""

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        """A title and Python lines that turn `outputs`, a list of arrays, into results, if there is anything to do."""
        return None
