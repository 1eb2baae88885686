"""From head tensors to faces: anchors, box deltas and non-maximum suppression, as upstream computes them.

This is the reference that every format is held to. Source of the rules: mxnet-SSH's `SSHDetector.detect` and its
`generate_anchors`, `bbox_pred` and NMS. Boxes are (x1, y1, x2, y2) in pixels of the network's input, with the corner
pixels included: a width is x2 - x1 + 1.

The model card is wrong in two places against that source: deltas are (dx, dy, dw, dh), not (dx, dy, dh, dw), and
(dx, dy) moves the centre of the box, not its upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from sshconvert.arrays import Floats
from sshconvert.boxes import suppress
from sshconvert.errors import DetectionError
from sshconvert.schema import Dimension, Positive, Share, Strict, TensorName

Numbers = npt.NDArray[np.intp]
Ratio = Annotated[float, pydantic.Field(gt=0, le=100)]


class AnchorHead(Strict):
    """One stride: its anchors and the tensors with their scores, box deltas and landmarks.

    The window of `base_size` has an anchor for each ratio (height over width), and of that one for each scale.
    """

    stride: Dimension
    base_size: Dimension = 16
    scales: tuple[Dimension, ...] = pydantic.Field(min_length=1)
    ratios: tuple[Ratio, ...] = pydantic.Field((1.0,), min_length=1)
    scores: TensorName
    boxes: TensorName
    landmarks: TensorName | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its tensors, in the network's order."""
        return tuple(filter(None, (self.scores, self.boxes, self.landmarks)))

    @property
    def sizes(self) -> tuple[tuple[float, float], ...]:
        """Width and height of each anchor, in the order of the channels."""
        widths = [float(round(math.sqrt(self.base_size**2 / ratio))) for ratio in self.ratios]
        return tuple(
            (width * scale, round(width * ratio) * scale)
            for width, ratio in zip(widths, self.ratios, strict=True)
            for scale in self.scales
        )


class AnchorDetection(Strict):
    """The task of SSH: scores and deltas of anchors, a head for each stride."""

    kind: Literal["anchor_detection"]
    score_threshold: Share
    iou_threshold: Share
    candidates_per_stride: Positive | None = None  # all of them
    heads: tuple[AnchorHead, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _are_different(self) -> AnchorDetection:
        names = self.outputs()
        if len(set(names)) < len(names):
            raise ValueError("two outputs have the same name")
        return self

    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that it decodes, in the network's order."""
        return tuple(name for head in self.heads for name in head.outputs)


def detect(
    outputs: Mapping[str, npt.NDArray[Any]], image_size: tuple[int, int], rules: AnchorDetection
) -> list[Floats]:
    """Faces of each image of a batch.

    `outputs` are the head tensors by name: scores float32 [N, 2A, H, W] (background of each anchor, then face of
    each), deltas float32 [N, 4A, H, W]. `image_size` is the (height, width) of the network's input.

    Returns, for each image, float32 [K, 5]: x1, y1, x2, y2, score, highest score first. Raises DetectionError if a
    tensor is missing or has a shape that does not belong to `rules`.
    """
    return [select(found, rules) for found in candidates(outputs, image_size, rules)]


def candidates(
    outputs: Mapping[str, npt.NDArray[Any]], image_size: tuple[int, int], rules: AnchorDetection
) -> list[Floats]:
    """What `detect` selects from, for the same arguments: of each stride the boxes with the highest scores, clipped.

    Boxes below the score threshold are left out. The others are in the order of their anchors.
    """
    images = [{name: outputs[name][index] for name in rules.outputs()} for index in range(batch_size(outputs, rules))]
    return [np.concatenate([_candidates(image, head, image_size, rules) for head in rules.heads]) for image in images]


def select(boxes: Floats, rules: AnchorDetection) -> Floats:
    """The faces among candidates [K, 5], of one image but perhaps of several scales; best first."""
    # Dropping low scores before the suppression instead of after it changes nothing: they suppress only lower ones.
    enough = np.flatnonzero(boxes[:, 4] >= rules.score_threshold)
    boxes = boxes[enough[np.argsort(-boxes[enough, 4], kind="stable")]]
    return boxes[suppress(boxes[:, :4], rules.iou_threshold)]


def batch_size(outputs: Mapping[str, npt.NDArray[Any]], rules: AnchorDetection) -> int:
    """How many images the head tensors are of.

    Raises DetectionError if a tensor is missing or has a shape that does not belong to `rules`.
    """
    missing = [name for name in rules.outputs() if name not in outputs]
    if missing:
        raise DetectionError(f"the outputs {', '.join(missing)} are missing; give all of {', '.join(rules.outputs())}")
    batch = outputs[rules.outputs()[0]].shape[:1]
    for head in rules.heads:
        cells = outputs[head.scores].shape[2:]
        for name, channels in ((head.scores, 2), (head.boxes, 4)):
            expected = (*batch, channels * len(head.sizes), *cells)
            if len(expected) != 4 or outputs[name].shape != expected:
                raise DetectionError(
                    f"{name} has shape {outputs[name].shape}, expected {expected}: [N, {channels}A, H, W]"
                )
    return int(batch[0])


def anchors(head: AnchorHead, height: int, width: int) -> Floats:
    """Anchor boxes of a head over its `height` x `width` cells: float32 [height * width * A, 4], row by row."""
    cells, kinds = np.divmod(np.arange(height * width * len(head.sizes)), len(head.sizes))
    return _anchors_at(cells, kinds, head, width)


def apply_deltas(boxes: Floats, deltas: Floats) -> Floats:
    """Move and resize `boxes` [K, 4] by `deltas` [K, 4]: (dx, dy) in box sizes, (dw, dh) in logarithms."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + 0.5 * (sizes - 1)
    largest = np.finfo(deltas.dtype).max
    with np.errstate(over="ignore"):  # untrained heads ask for boxes of infinite size; clipping makes them the image
        centres = np.clip(deltas[:, :2] * sizes + centres, -largest, largest)  # infinity minus itself is no number
        reach = 0.5 * (np.exp(deltas[:, 2:]) * sizes - 1)
        return np.concatenate([centres - reach, centres + reach], axis=1)


def face_scores(outputs: Mapping[str, npt.NDArray[Any]], head: AnchorHead) -> npt.NDArray[Any]:
    """The score of every anchor of a head, for the outputs of one image, without the batch: [H * W * A], row by row."""
    scores: npt.NDArray[Any] = outputs[head.scores][len(head.sizes) :].transpose(1, 2, 0).reshape(-1)
    return scores


def decode(outputs: Mapping[str, npt.NDArray[Any]], head: AnchorHead, numbers: Numbers) -> npt.NDArray[Any]:
    """The anchors of a head with these numbers [K], moved by their deltas, with their scores, for one image: [K, 5].

    `outputs` are the head tensors of the image, without the batch: [2A, H, W] and [4A, H, W]. The result has their
    precision, and nothing in it is clipped.
    """
    height, width = outputs[head.boxes].shape[1:]
    cells, kinds = np.divmod(numbers, len(head.sizes))
    first = 4 * kinds * (height * width) + cells
    # A row for each part of a delta, seen from its side: so all that follows runs along memory.
    deltas = outputs[head.boxes].reshape(-1)[first + np.arange(4)[:, None] * (height * width)].T
    boxes = apply_deltas(_anchors_at(cells, kinds, head, width), deltas)
    return np.concatenate([boxes, face_scores(outputs, head)[numbers, None]], axis=1)


def clip(boxes: Floats, image_size: tuple[int, int]) -> Floats:
    """Move corners outside the image to its border pixels."""
    height, width = image_size
    limits = np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype)
    return np.clip(boxes, 0, limits)


def best_first(candidates: Floats) -> Floats:
    """Candidates [K, 5] ordered by score, highest first; equals keep their order."""
    return candidates[np.argsort(-candidates[:, 4], kind="stable")]


def highest(scores: npt.NDArray[Any], count: int | None) -> Numbers:
    """Numbers, ascending, of the `count` highest of `scores` [K], which are no NaN; of equals the first are taken."""
    if count is None or len(scores) <= count:
        return np.arange(len(scores))
    least = np.partition(scores, -count)[-count]
    taken = scores > least
    equal = np.flatnonzero(scores == least)
    taken[equal[: count - np.count_nonzero(taken)]] = True
    return np.flatnonzero(taken)


def _anchors_at(cells: Numbers, kinds: Numbers, head: AnchorHead, width: int) -> Floats:
    """The anchors of these kinds [K] (which of `head.sizes`) at these cells [K] (row by row, `width` a row): [K, 4]."""
    centre = (head.base_size - 1) / 2
    reach = (np.array(head.sizes).T - 1) / 2
    base = np.concatenate([centre - reach, centre + reach])
    rows, columns = np.divmod(cells, width) * np.array(head.stride)
    found: Floats = (base[:, kinds] + [columns, rows, columns, rows]).astype(np.float32).T
    return found


def _candidates(
    outputs: Mapping[str, npt.NDArray[Any]], head: AnchorHead, image_size: tuple[int, int], rules: AnchorDetection
) -> Floats:
    """Low scores are dropped first: whoever selects drops them too, and they keep no higher one from the best."""
    scores = face_scores(outputs, head)
    enough = np.flatnonzero(scores >= rules.score_threshold)
    found = decode(outputs, head, enough[highest(scores[enough], rules.candidates_per_stride)])
    found[:, :4] = clip(found[:, :4], image_size)
    return found
