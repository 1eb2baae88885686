"""The options of a conversion: which formats and precisions to write, and how the artifacts take their input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.base import Task
from sshconvert.tasks.inside import OutputForm


class Precision(StrEnum):
    """How an artifact stores the weights. The runtime chooses the precision of the computation, except for INT8."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"


class Dynamic(StrEnum):
    """The dimensions of the input that every run may choose."""

    NOTHING = "none"
    BATCH = "batch"
    SIZE = "size"
    ALL = "all"


class Layout(StrEnum):
    """The order of the input's dimensions: N images, C channels, H rows, W columns."""

    NCHW = "NCHW"
    NHWC = "NHWC"


class InputType(StrEnum):
    """The type of the input's values, 0-255 in both."""

    FLOAT32 = "f32"
    UINT8 = "u8"


class Color(StrEnum):
    """The order of the input's channels."""

    BGR = "bgr"
    RGB = "rgb"


@dataclass(frozen=True)
class Postprocessing:
    """Post-processing inside the artifact (`Task.append_to`). None selects the threshold of the task.

    With `keep_heads`, the network's outputs follow the results. `form` is that of the results.
    """

    score_threshold: float | None = None
    iou_threshold: float | None = None
    top_k: int = 1000
    keep_heads: bool = False
    form: OutputForm = OutputForm.PLAIN

    def task(self, model: ModelSpec) -> Task:
        """Return the model's task with these thresholds. Raises UsageError for a task without thresholds."""
        return model.task.with_thresholds(self.score_threshold, self.iou_threshold)


@dataclass(frozen=True)
class Options:
    """Options of a conversion. `formats` are keys of `sshconvert.formats.registry.FORMATS`.

    `input_shape` is N, C, H, W in every layout; None selects the model's own. `dynamic` frees some of its dimensions.

    With `preprocessing`, the input is raw, 0-255, in `color`. Without it, the input is the original network's: RGB
    minus the mean, float32. With `postprocessing`, the task's results replace the network's outputs or precede them.
    """

    formats: tuple[str, ...] = ("onnx", "openvino")
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    input_shape: Shape | None = None
    preprocessing: bool = True
    dynamic: Dynamic = Dynamic.NOTHING
    layout: Layout = Layout.NCHW
    input_type: InputType = InputType.FLOAT32
    color: Color = Color.BGR
    postprocessing: Postprocessing | None = None
