"""Detection with the heads of YOLOv3: from the tensors of heads to boxes with scores.

All formats are compared with this decoding. Its rules come from GluonCV's `YOLOV3`: every class of every anchor is a
candidate, boxes that overlap a better one of their class by more than the threshold are suppressed, and an overlap is
measured without corner pixels. Open Model Zoo's adapter `yolo_v3` does the same for one class.

GluonCV keeps the 400 best candidates before the suppression and 100 boxes after it, does not clip boxes, and drops
scores equal to the threshold; this task keeps all candidates, clips boxes to the image after the suppression as Open
Model Zoo does, and keeps scores equal to the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal

import numpy as np
import pydantic

from sshconvert.errors import DetectionError, UsageError
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.tasks.anchors import highest
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.detection_faults import decoder_faults, image_faults, inside_faults, threshold_faults
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.made_up import Canvas
from sshconvert.tasks.postprocessing import Candidates, append_postprocessing
from sshconvert.tasks.registry import TASKS
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import Profile, without_plain_images
from sshconvert.tasks.yolo_faults import channel_faults, decoding_faults
from sshconvert.tasks.yolo_heads import CLASSES, YoloHead
from sshconvert.tasks.yolo_made_up import YoloCanvas
from sshconvert.tasks.yolo_postprocessing import decode_head

_USAGE: Final = """\
found = []  # x1, y1, x2, y2, score, class
for output, stride, anchors in zip(outputs, {strides}, {anchors}):
    for (width, height), values in zip(anchors, np.split(output[0], len(anchors))):
        rows, columns = np.indices(values.shape[1:])
        x, y, objectness, *classes = 1 / (1 + np.exp(-values[[0, 1, *range(4, len(values))]]))
        x, y = (x + columns) * stride, (y + rows) * stride
        w, h = np.exp(values[2]) * width / 2, np.exp(values[3]) * height / 2
        for number, score in enumerate(np.array(classes) * objectness):
            boxes = [x - w, y - h, x + w, y + h, score, np.full_like(score, number)]
            found.append(np.dstack(boxes)[score >= 0.5])
found = np.concatenate(found)
{noun}s = []
for box in found[np.argsort(-found[:, 4])]:
    better = np.array([box, *{noun}s])
    sizes = np.minimum(better[:, 2:4], box[2:4]) - np.maximum(better[:, :2], box[:2])
    common = np.prod(np.maximum(sizes, 0), 1) * (better[:, 5] == box[5])
    areas = np.prod(better[:, 2:4] - better[:, :2], 1)
    if (common[1:] <= {overlap} * (areas[0] + areas[1:] - common[1:])).all():
        {noun}s.append(box)
print(np.array({noun}s))  # some reach beyond the image"""


@TASKS.register("yolo_detection")
class YoloDetection(DetectionTask):
    """Detection with the heads of YOLOv3. The classes have the order of `labels`."""

    kind: Literal["yolo_detection"]
    heads: tuple[YoloHead, ...] = pydantic.Field(min_length=1)

    last_pixel: ClassVar[int] = 0
    suppresses_equal: ClassVar[bool] = False
    clips_last: ClassVar[bool] = True

    @pydantic.model_validator(mode="after")
    def _are_different(self) -> YoloDetection:
        names = self.outputs()
        if len(set(names)) < len(names):
            raise ValueError("two outputs have the same name")
        return self

    def outputs(self) -> tuple[str, ...]:
        return tuple(head.output for head in self.heads)

    def score_outputs(self) -> tuple[str, ...]:
        return self.outputs()

    def has_own_scale(self) -> bool:
        return True  # logits

    def left_out(self, profile: Profile) -> Mapping[str, str]:
        return without_plain_images(profile)  # all cells of such an image pass the threshold, or none

    def candidates(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        return [
            Detections.join([self._candidates(image, head) for head in self.heads]) for image in self._images(outputs)
        ]

    def by_stride(self, outputs: Outputs, most: int) -> list[list[Detections]]:
        results = []
        for image in self._images(outputs):
            scores = [head.scores_of(image) for head in self.heads]
            results.append(
                [
                    head.decode(image, highest(values, most), values).best_first()
                    for head, values in zip(self.heads, scores, strict=True)
                ]
            )
        return results

    def without_coarsest(self) -> YoloDetection:
        largest = max(head.stride for head in self.heads)
        return self.model_copy(update={"heads": tuple(head for head in self.heads if head.stride < largest)})

    def most_candidates(self, outputs: Outputs) -> int:
        classes = len(self.labels)
        return sum(classes * len(head.anchors) * math.prod(outputs[head.output].shape[2:]) for head in self.heads)

    def append_to(self, model: OnnxModel, *, input_name: str, top_k: int, keep_heads: bool) -> OnnxModel:
        if len(self.labels) > 1:
            raise UsageError(
                f"--postprocess: the task {self.kind} has a post-processing for one class alone, and this model has "
                f"{len(self.labels)}; omit the option"
            )

        def candidates(build: Builder, _limits: str) -> list[Candidates]:
            return [decode_head(build, model, head) for head in self.heads]

        return append_postprocessing(model, self, candidates, input_name=input_name, top_k=top_k, keep_heads=keep_heads)

    def canvases(self, shapes: Mapping[str, Sequence[int]]) -> Sequence[Canvas]:
        return [YoloCanvas(head, (shapes[head.output][-2], shapes[head.output][-1])) for head in self.heads]

    def metadata(self) -> dict[str, str]:
        return {"strides": " ".join(str(head.stride) for head in self.heads)}

    def faults(self) -> tuple[Fault, ...]:
        return (
            *channel_faults(self.heads, len(self.labels)),
            *inside_faults(self.noun),
            *decoder_faults({head.stride: len(head.anchors) for head in self.heads}, 4),
            *decoding_faults(self.heads, len(self.labels)),
            *threshold_faults(self.score_threshold, self.iou_threshold),
            *image_faults(self.noun, self.last_pixel),
        )

    def meaning(self, output: str) -> str:
        for head in self.heads:
            if output == head.output:
                channels = ", ".join(("x", "y", "w", "h", "objectness", *self.labels))
                return f": stride {head.stride}; ({channels}) of each anchor, before the sigmoid"
        return super().meaning(output)

    def card(self, declared: Inside | None) -> str:
        if declared is not None:
            return super().card(declared)
        sizes = "; ".join(
            f"{', '.join(f'{width} x {height}' for width, height in head.anchors)} (stride {head.stride})"
            for head in self.heads
        )
        return (
            f"The anchors of a cell, width x height in pixels: {sizes}. With the sigmoid s, the centre of a box is "
            "(s(x) + column, s(y) + row) times\nthe stride, its size is (exp(w), exp(h)) times the anchor's, and its "
            f"score is s(objectness) times s(class). {self.noun.capitalize()}s of a score below {self.score_threshold} "
            f"are dropped,\nand so is a {self.noun} that overlaps a better one of its class by more than "
            f"{self.iou_threshold} (intersection over union)."
        )

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        if inside:
            return super().usage(inside=inside)
        lines = _USAGE.format(
            strides=tuple(head.stride for head in self.heads),
            anchors=tuple(head.anchors for head in self.heads),
            overlap=self.iou_threshold,
            noun=self.noun,
        )
        return f"From the outputs to {self.noun}s", lines

    def _images(self, outputs: Outputs) -> list[Outputs]:
        """Return the tensors of each image of a batch. Raises DetectionError for missing tensors or other shapes."""
        self.require_outputs(outputs)
        batch = outputs[self.outputs()[0]].shape[:1]
        for head in self.heads:
            shape = outputs[head.output].shape
            expected = (*batch, len(head.anchors) * (CLASSES + len(self.labels)), *shape[2:])
            if len(expected) != 4 or shape != expected:
                raise DetectionError(
                    f"{head.output} has shape {shape}, expected {expected}: [N, A * (5 + classes), H, W]"
                )
        return self.by_image(outputs)

    def _candidates(self, outputs: Outputs, head: YoloHead) -> Detections:
        scores = head.scores_of(outputs)
        indices = np.flatnonzero(scores >= self.score_threshold)
        return head.decode(outputs, indices, scores)
