"""Detection with anchors, the task of SSH and RetinaFace: from the tensors of heads to boxes with scores.

All formats are compared with this decoding. Its rules come from mxnet-SSH's `SSHDetector.detect`, which InsightFace's
`RetinaFace.detect` repeats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import pydantic

from sshconvert.arrays import Array, Flags
from sshconvert.errors import DetectionError
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.schema import Positive
from sshconvert.tasks.anchor_card import describe, has_plain_anchors, meaning, program
from sshconvert.tasks.anchor_faults import box_faults, channel_faults, score_faults, suppression_faults
from sshconvert.tasks.anchor_made_up import AnchorCanvas
from sshconvert.tasks.anchors import AnchorHead, highest
from sshconvert.tasks.certainty import score_errors
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.detection_faults import decoder_faults, image_faults, inside_faults, threshold_faults
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.inside import Columns, Inside
from sshconvert.tasks.landmark_faults import attribute_faults, column_faults, landmark_faults
from sshconvert.tasks.made_up import Canvas
from sshconvert.tasks.postprocessing import Candidates, append_postprocessing, decode_head
from sshconvert.tasks.registry import TASKS
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import Profile, Tolerance

# Training leaves the deltas of anchors without a face free. In a narrow network with landmarks, 256 levels move them by
# at most 0.66, those of boxes by 0.27; matched boxes and their landmarks are compared in pixels.
INT8_DELTAS: Final = 4.0

# The size of a box over its anchor's at which other detectors with anchors, such as Detectron's, cut boxes.
USUAL_CAP: Final = 1000 / 16


@TASKS.register("anchor_detection")
class AnchorDetection(DetectionTask):
    """Detection with anchors, whose scores and deltas come from one head for each stride.

    Each stride keeps its `candidates_per_stride` best candidates, or all candidates if it is None.
    """

    kind: Literal["anchor_detection"]
    candidates_per_stride: Positive | None = None
    heads: tuple[AnchorHead, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _are_different(self) -> AnchorDetection:
        names = self.outputs()
        if len(set(names)) < len(names):
            raise ValueError("two outputs have the same name")
        if len({(head.landmarks and head.points, head.attribute_names) for head in self.heads}) > 1:
            raise ValueError("the heads have different landmarks or attributes")
        return self

    def outputs(self) -> tuple[str, ...]:
        return tuple(name for head in self.heads for name in head.outputs)

    def score_outputs(self) -> tuple[str, ...]:
        return tuple(head.scores for head in self.heads)

    def attribute_outputs(self) -> tuple[str, ...]:
        return tuple(head.attributes.tensor for head in self.heads if head.attributes)

    def probability_outputs(self) -> tuple[str, ...]:
        return (*self.score_outputs(), *self.attribute_outputs())

    @property
    def columns(self) -> Columns:
        first = self.heads[0]
        return Columns(first.points if first.landmarks else 0, first.attribute_names)

    def linear_outputs(self) -> tuple[str, ...]:
        return tuple(name for head in self.heads for name in (head.boxes, head.landmarks) if name)

    def candidates(self, outputs: Outputs, image_size: Size) -> list[Detections]:
        """Return each stride's candidates with the highest scores above the threshold, in the order of the anchors."""
        return [
            Detections.join([self._candidates(image, head, image_size) for head in self.heads])
            for image in self._images(outputs)
        ]

    def possible(self, outputs: Outputs, image_size: Size, tolerance: Tolerance) -> list[tuple[Detections, Flags]]:
        every = self.model_copy(update={"candidates_per_stride": None}).below(tolerance)
        return [
            every.within(image, image_size, tolerance, self.candidates_per_stride) for image in self._images(outputs)
        ]

    def within(
        self, image: Outputs, image_size: Size, tolerance: Tolerance, limit: int | None
    ) -> tuple[Detections, Flags]:
        """Return the candidates of one image that may be among each stride's best, and which surely are."""
        strides = [self._candidates(image, head, image_size) for head in self.heads]
        ranks = [_ranks(stride.scores, tolerance, limit) for stride in strides]
        candidates = [stride[possible] for stride, (possible, _) in zip(strides, ranks, strict=True)]
        return Detections.join(candidates), np.concatenate([sure[possible] for possible, sure in ranks])

    def by_stride(self, outputs: Outputs, most: int) -> list[list[Detections]]:
        return [
            [head.decode(image, highest(head.scores_of(image), most)).best_first() for head in self.heads]
            for image in self._images(outputs)
        ]

    def without_coarsest(self) -> AnchorDetection:
        largest = max(head.stride for head in self.heads)
        return self.model_copy(update={"heads": tuple(head for head in self.heads if head.stride < largest)})

    def most_candidates(self, outputs: Outputs) -> int:
        counts = [len(head.sizes) * math.prod(outputs[head.scores].shape[2:]) for head in self.heads]
        return sum(min(count, self.candidates_per_stride or count) for count in counts)

    def append_to(self, model: OnnxModel, *, input_name: str, top_k: int, keep_heads: bool) -> OnnxModel:
        def candidates(build: Builder, limits: str) -> list[Candidates]:
            return [decode_head(build, model, head, self.candidates_per_stride, limits) for head in self.heads]

        return append_postprocessing(model, self, candidates, input_name=input_name, top_k=top_k, keep_heads=keep_heads)

    def canvases(self, shapes: Mapping[str, Sequence[int]]) -> Sequence[Canvas]:
        return [AnchorCanvas(head, (shapes[head.scores][-2], shapes[head.scores][-1])) for head in self.heads]

    @property
    def stride_limit(self) -> int | None:
        return self.candidates_per_stride

    def scale_of(self, output: str, expected: Array, profile: Profile) -> float:  # as the base
        is_delta = any(output in (head.boxes, head.landmarks) for head in self.heads if head.landmarks)
        return INT8_DELTAS if is_delta and profile.name == "INT8" else 1.0

    def metadata(self) -> dict[str, str]:
        entries = {"strides": " ".join(str(head.stride) for head in self.heads)}
        if self.columns.points:
            entries["landmarks"] = str(self.columns.points)
        if self.columns.attributes:
            entries["attributes"] = " ".join(self.columns.attributes)
        return entries

    def faults(self) -> tuple[Fault, ...]:
        return (
            *channel_faults(self.heads, self.noun),
            *inside_faults(self.noun),
            *column_faults(self.columns, self.noun),
            *decoder_faults({head.stride: len(head.sizes) for head in self.heads}, USUAL_CAP),
            *suppression_faults(),
            *box_faults(self.heads),
            *threshold_faults(self.score_threshold, self.iou_threshold),
            *score_faults(self.heads, self.noun),
            *landmark_faults(self.heads),
            *attribute_faults(self.heads),
            *image_faults(self.noun, self.last_pixel),
        )

    def meaning(self, output: str) -> str:
        return meaning(self.heads, output, self.noun) or super().meaning(output)

    def card(self, declared: Inside | None) -> str:
        if declared is not None:
            return super().card(declared)
        return describe(self.heads, self.noun, self.score_threshold, self.iou_threshold)

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        if inside or not has_plain_anchors(self.heads):
            return super().usage(inside=inside)
        return f"From the outputs to {self.noun}s", program(self.heads, self.noun, self.iou_threshold)

    def _images(self, outputs: Outputs) -> list[Outputs]:
        """Return the tensors of each image of a batch. Raises DetectionError for missing tensors or other shapes."""
        self.require_outputs(outputs)
        batch = outputs[self.outputs()[0]].shape[:1]
        for head in self.heads:
            cells = outputs[head.scores].shape[2:]
            for name, channels in head.tensors:
                expected = (*batch, channels * len(head.sizes), *cells)
                if len(expected) != 4 or outputs[name].shape != expected:
                    raise DetectionError(
                        f"{name} has shape {outputs[name].shape}, expected {expected}: [N, {channels}A, H, W]"
                    )
        return self.by_image(outputs)

    def _candidates(self, outputs: Outputs, head: AnchorHead, image_size: Size) -> Detections:
        """Return the candidates of one head.

        Dropping the low scores here is faster and gives the same result, because `select` drops them too.
        """
        scores = head.scores_of(outputs)
        above = np.flatnonzero(scores >= self.score_threshold)
        indices = above[highest(scores[above], self.candidates_per_stride)]
        return head.decode(outputs, indices).clipped(image_size)


def _ranks(scores: Array, tolerance: Tolerance, limit: int | None) -> tuple[Flags, Flags]:
    """Return which scores may be, and which surely are, among the `limit` highest."""
    if limit is None or len(scores) <= limit:
        return np.ones(len(scores), bool), np.ones(len(scores), bool)
    errors = score_errors(scores, tolerance)
    low, high = scores - errors, scores + errors
    return high >= np.sort(low)[-limit], low > np.sort(high)[-limit - 1]
