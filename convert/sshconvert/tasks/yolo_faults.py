"""The faults of networks with heads of YOLOv3: in the channels of the heads, and in the decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sshconvert.arrays import Array, Indices
from sshconvert.tasks.detection_faults import permute_channels, swap_outputs
from sshconvert.tasks.faults import Decode, Editable, Fault, Outputs, Size, Stage
from sshconvert.tasks.results import Detections
from sshconvert.tasks.yolo_heads import CLASSES, OBJECTNESS, YoloHead

Heads = Sequence[YoloHead]
# Returns changed values of a head, [N, A, 5 + C, H, W].
Change = Callable[[Array], Array]

_CERTAIN = 50.0  # its sigmoid is 1 in every precision


def channel_faults(heads: Heads, classes: int) -> tuple[Fault, ...]:
    """Return faults in the order of outputs, anchors and channels."""
    last, block = heads[-1], CLASSES + classes

    def exchanged(first: int, second: int) -> Callable[[Editable], None]:
        """Exchange two channels of each anchor."""
        order = np.arange(block)
        order[[first, second]] = second, first
        places = np.arange(len(last.anchors))[:, None] * block + order
        return lambda copy: permute_channels(copy, last.output, places.ravel())

    rolled = np.roll(np.arange(block * len(last.anchors)), block)
    faults = [
        Fault(
            Stage.OUTPUTS, "two outputs swapped", lambda copy: swap_outputs(copy, [head.output for head in heads[-2:]])
        ),
        Fault(Stage.CHANNELS, "x and y exchanged", exchanged(0, 1)),
        Fault(Stage.CHANNELS, "w and h exchanged", exchanged(2, 3)),
    ]
    if len(last.anchors) > 1:
        faults.append(
            Fault(Stage.CHANNELS, "anchors exchanged", lambda copy: permute_channels(copy, last.output, rolled))
        )
    if classes > 1:
        faults.append(Fault(Stage.CHANNELS, "two classes exchanged", exchanged(CLASSES, CLASSES + 1)))
    return tuple(faults)


def decoding_faults(heads: Heads, classes: int) -> tuple[Fault, ...]:
    """Return faults in the use of cells, anchors and scores."""
    decodings: dict[str, Decode] = {
        "w and h exchanged": _changed(heads, _take([0, 1, 3, 2])),
        "anchors in the reverse order": _other_heads(_reverse_anchors),
        "anchors of another stride": _other_heads(_exchange_anchors),
        "stride twice too large": _other_heads(_double_stride),
        "cells half a cell too far": _moved(0.5),
        "cells numbered from 1": _moved(1.0),
        "objectness not multiplied": _changed(heads, _set(slice(OBJECTNESS, OBJECTNESS + 1))),
        "class not multiplied": _changed(heads, _set(slice(CLASSES, None))),
    }
    if all(len(head.anchors) == 1 for head in heads):
        del decodings["anchors in the reverse order"]
    if len(heads) == 1:
        del decodings["anchors of another stride"]
    if classes > 1:
        decodings["class off by one"] = _class_off_by_one
    return tuple(Fault(Stage.DECODING, name, decode=decode) for name, decode in decodings.items())


def _changed(heads: Heads, change: Change) -> Decode:
    """Return a decoding of changed tensors."""

    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
        changed = {}
        for head in heads:
            tensor = outputs[head.output]
            batch, _, *cells = tensor.shape
            changed[head.output] = change(tensor.reshape(batch, len(head.anchors), -1, *cells)).reshape(tensor.shape)
        detections: list[Detections] = task.decode({**outputs, **changed}, image_size)
        return detections

    return decode


def _take(order: Sequence[int]) -> Change:
    """Return a change of the order of the first channels."""

    def change(values: Array) -> Array:
        return np.concatenate([values[:, :, list(order)], values[:, :, len(order) :]], axis=2)

    return change


def _set(channels: slice) -> Change:
    """Return a change of channels to 1 after the sigmoid."""

    def change(values: Array) -> Array:
        changed = values.copy()
        changed[:, :, channels] = _CERTAIN
        return changed

    return change


def _other_heads(change: Callable[[Heads], Heads]) -> Decode:
    """Return a decoding by changed heads."""

    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
        other = task.model_copy(update={"heads": tuple(change(task.heads))})
        detections: list[Detections] = other.decode(outputs, image_size)
        return detections

    return decode


def _reverse_anchors(heads: Heads) -> Heads:
    return [head.model_copy(update={"anchors": head.anchors[::-1]}) for head in heads]


def _exchange_anchors(heads: Heads) -> Heads:
    """Give each head the anchors of the one before, and the first those of the last, as many as it has."""
    return [
        head.model_copy(update={"anchors": (heads[number - 1].anchors * len(head.anchors))[: len(head.anchors)]})
        for number, head in enumerate(heads)
    ]


def _double_stride(heads: Heads) -> Heads:
    return [head.model_copy(update={"stride": 2 * head.stride}) for head in heads]


def _moved(cells: float) -> Decode:
    """Return a decoding that moves boxes by a part of their cell to the lower right."""

    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
        height, width = image_size
        results = []
        for image in range(len(next(iter(outputs.values())))):
            moved = []
            for head in task.heads:
                alone = task.model_copy(update={"heads": (head,)})
                tensor = {head.output: outputs[head.output][image : image + 1]}
                distance = cells * head.stride
                (found,) = alone.candidates(tensor, (height, width))
                moved.append(replace(found, boxes=found.boxes + found.boxes.dtype.type(distance)))
            results.append(task.select(Detections.join(moved).clipped(image_size, task.last_pixel)))
        return results

    return decode


def _class_off_by_one(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
    count = len(task.labels)

    def next_class(numbers: Indices | None) -> Indices | None:
        return None if numbers is None else (numbers + 1) % count

    return [replace(found, class_ids=next_class(found.class_ids)) for found in task.decode(outputs, image_size)]
