"""Detection with anchors, the task of SSH and RetinaFace: from the tensors of heads to boxes with scores.

All formats are compared with this decoding. Its rules come from mxnet-SSH's `SSHDetector.detect`, which InsightFace's
`RetinaFace.detect` repeats.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
import pydantic

from sshconvert.errors import DetectionError
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.schema import Positive
from sshconvert.tasks.anchor_faults import box_faults, channel_faults, score_faults
from sshconvert.tasks.anchors import AnchorHead, highest
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.detection_faults import image_faults, inside_faults, threshold_faults
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.inside import Columns, Inside
from sshconvert.tasks.landmark_faults import attribute_faults, column_faults, landmark_faults
from sshconvert.tasks.postprocessing import Candidates, append_postprocessing, decode_head
from sshconvert.tasks.registry import TASKS
from sshconvert.tasks.results import Detections

_USAGE: Final = """\
found = []  # x1, y1, x2, y2, score{meanings}
for {tensors}, stride, scales in zip({slices}, {strides}, {scales}):
    for number, size in enumerate({base} * np.array(scales)):
        dx, dy, dw, dh = deltas[0, 4 * number : 4 * number + 4]
        y, x = np.indices(dx.shape) * stride + {centre}
{steps}        x, y, w, h = x + dx * size, y + dy * size, np.exp(dw) * size - 1, np.exp(dh) * size - 1
        {noun} = scores[0, len(scales) + number]
        found.append(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2, {noun}{columns}], 2)[{noun} >= 0.5])
found = np.concatenate(found)
{noun}s = []
for box in found[np.argsort(-found[:, 4])]:
    better = np.array([box, *{noun}s])
    sizes = np.minimum(better[:, 2:4], box[2:4]) - np.maximum(better[:, :2], box[:2]) + 1
    common = np.prod(np.maximum(sizes, 0), 1)  # with itself first, so its own area
    areas = np.prod(better[:, 2:4] - better[:, :2] + 1, 1)
    if (common[1:] < {overlap} * (areas[0] + areas[1:] - common[1:])).all():
        {noun}s.append(box)
print(np.array({noun}s))"""


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

    def metadata(self) -> dict[str, str]:
        return {"strides": " ".join(str(head.stride) for head in self.heads)}

    def faults(self) -> tuple[Fault, ...]:
        return (
            *channel_faults(self.heads, self.noun),
            *inside_faults(self.noun),
            *column_faults(self.columns, self.noun),
            *box_faults(self.heads),
            *threshold_faults(self.score_threshold, self.iou_threshold),
            *score_faults(self.heads, self.noun),
            *landmark_faults(self.heads),
            *attribute_faults(self.heads),
            *image_faults(self.noun, self.last_pixel),
        )

    def meaning(self, output: str) -> str:
        for head in self.heads:
            count = len(head.sizes)
            if output == head.scores:
                return (
                    f": stride {head.stride}; {count} channels of background, then {count} of {self.noun}, one an "
                    "anchor"
                )
            if output == head.boxes:
                return f": stride {head.stride}; (dx, dy, dw, dh) of each anchor"
            if output == head.landmarks:
                return f": stride {head.stride}; (dx, dy) of {head.points} landmarks of each anchor"
            if head.attributes and output == head.attributes.tensor:
                blocks = ", ".join(name or "unused" for name in head.attributes.blocks)
                return f": stride {head.stride}; blocks of {count} channels, one an anchor: {blocks}"
        return super().meaning(output)

    def card(self, declared: Inside | None) -> str:
        if declared is not None:
            return super().card(declared)
        first = self.heads[0]
        if not self._has_plain_heads:
            sizes = "; ".join(
                f"{' and '.join(f'{width:g} x {height:g}' for width, height in head.sizes)} (stride {head.stride})"
                for head in self.heads
            )
            return (
                f"The anchors of a cell, width x height in pixels: {sizes}. Deltas are (dx, dy, dw, dh) for each."
                f"{self._card_of_columns()}"
            )
        sizes = ",".join(f"{' and '.join(map(str, head.scales))} (stride {head.stride})" for head in self.heads)
        return (
            f"The anchors of a cell are squares of {first.base_size} times {sizes} pixels, centred {first.centre} "
            "pixels right of and below the cell's corner. Deltas are (dx, dy, dw, dh) for each: the centre moves by\n"
            f"d times the size, and the size is multiplied by exp(d). {self.noun.capitalize()}s of a score below "
            f"{self.score_threshold} are dropped, and so is a {self.noun}\n"
            f"that overlaps a better one by {self.iou_threshold} (intersection over union, corner pixels included)."
            f"{self._card_of_columns()}"
        )

    def _card_of_columns(self) -> str:
        """Return the model card's sentences about deviations, landmarks and attributes, or ""."""
        first, text = self.heads[0], ""
        if first.box_std != (1, 1, 1, 1):
            text += f" They are multiplied by {', '.join(f'{value:g}' for value in first.box_std)} before."
        if first.landmarks:
            text += (
                f"\nEach of the {first.points} landmarks is the anchor's centre, moved by (dx, dy) times its size"
                f"{f' times {first.landmark_std:g}' if first.landmark_std != 1 else ''}."
            )
        if first.attributes:
            text += f"\nThe attributes of each anchor, from 0 to 1: {', '.join(first.attribute_names)}."
        return text

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        if inside or not self._has_plain_heads:
            return super().usage(inside=inside)
        first = self.heads[0]
        tensors, meanings, steps, columns = ["scores", "deltas"], "", "", ""
        if first.landmarks:
            count, deviation = 2 * first.points, f" * {first.landmark_std:g}" if first.landmark_std != 1 else ""
            tensors.append("points")
            meanings += ", x and y of each landmark"
            steps += f"        moves = points[0, {count} * number : {count} * number + {count}]{deviation}\n"
            steps += f"        landmarks = moves * size + np.stack([x, y] * {first.points})\n"
            columns += ", *landmarks"
        if first.attributes:
            tensors.append("blocks")
            meanings += f", {', '.join(first.attribute_names)}"
            for block in first.attributes.numbers:
                columns += f", blocks[0, {block} * len(scales) + number]"
        lines = _USAGE.format(
            tensors=", ".join(tensors),
            slices=", ".join(f"outputs[{number}::{len(tensors)}]" for number in range(len(tensors))),
            meanings=meanings,
            steps=steps,
            columns=columns,
            strides=tuple(head.stride for head in self.heads),
            scales=tuple(head.scales for head in self.heads),
            base=self.heads[0].base_size,
            centre=self.heads[0].centre,
            overlap=self.iou_threshold,
            noun=self.noun,
        )
        return f"From the outputs to {self.noun}s", lines

    @property
    def _has_plain_heads(self) -> bool:
        """Whether the card's example applies: square anchors of one base size, and deltas as they are."""
        first = self.heads[0]
        forms = {(head.base_size, head.ratios, head.box_std, head.landmark_std) for head in self.heads}
        return forms == {(first.base_size, (1.0,), (1, 1, 1, 1), first.landmark_std)}

    def _images(self, outputs: Outputs) -> list[Outputs]:
        """Return the tensors of each image of a batch. Raises DetectionError for missing tensors or other shapes."""
        missing = [name for name in self.outputs() if name not in outputs]
        if missing:
            raise DetectionError(
                f"the outputs {', '.join(missing)} are missing; give all of {', '.join(self.outputs())}"
            )
        batch = outputs[self.outputs()[0]].shape[:1]
        for head in self.heads:
            cells = outputs[head.scores].shape[2:]
            for name, channels in head.tensors:
                expected = (*batch, channels * len(head.sizes), *cells)
                if len(expected) != 4 or outputs[name].shape != expected:
                    raise DetectionError(
                        f"{name} has shape {outputs[name].shape}, expected {expected}: [N, {channels}A, H, W]"
                    )
        return [{name: outputs[name][index] for name in self.outputs()} for index in range(int(batch[0]))]

    def _candidates(self, outputs: Outputs, head: AnchorHead, image_size: Size) -> Detections:
        """Return the candidates of one head.

        Dropping the low scores here is faster and gives the same result, because `select` drops them too.
        """
        scores = head.scores_of(outputs)
        above = np.flatnonzero(scores >= self.score_threshold)
        indices = above[highest(scores[above], self.candidates_per_stride)]
        return head.decode(outputs, indices).clipped(image_size)
