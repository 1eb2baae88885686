"""The faults of all tasks with detections: in a file with the post-processing inside, and in the decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sshconvert.arrays import Floats, Indices
from sshconvert.editable import Arithmetic, NotThereError
from sshconvert.tasks.faults import Editable, Fault, Outputs, Size, Stage
from sshconvert.tasks.inside import BOXES, COUNT, NODES, SCORES
from sshconvert.tasks.results import Detections


def inside_faults(noun: str) -> tuple[Fault, ...]:
    """Return the faults of the three outputs of a file with the post-processing inside."""
    plants = {
        "scores not a number": _scores(Arithmetic.MULTIPLY, np.nan),
        "scores all 1": _scores_of_one,
        "scores halved": _scores(Arithmetic.MULTIPLY, 0.5),
        f"two {noun}s with each other's scores": _exchange_two_boxes,
        "count one too high": _add_to_count(1),
        "count one too low": _add_to_count(-1),
        "count in floats": lambda copy: copy.cast(COUNT, np.float32),
        "count in 64 bits": lambda copy: copy.cast(COUNT, np.int64),
        f"a box behind the last {noun}": _in_last_row(BOXES, 1),
        f"a score behind the last {noun}": _in_last_row(SCORES, 0.01),
        f"not a number behind the last {noun}": _in_last_row(BOXES, np.nan),
        "scores in the reverse order": _reverse_scores,
        "boxes rounded to half a pixel": _round_boxes,
    }
    return tuple(Fault(Stage.INSIDE, name, plant) for name, plant in plants.items())


def decoder_faults(anchors: Mapping[int, int], largest: float) -> tuple[Fault, ...]:
    """Return the faults of the decoding inside a file.

    `anchors` are their numbers by the stride. `largest` is the size over the anchor's to which boxes are cut.
    """
    prefix = f"{NODES}stride"
    coarsest, finest = max(anchors), min(anchors)
    first = np.ones((anchors[finest], 1), np.float32)
    first[0] = 1.001

    def cap(copy: Editable) -> None:
        for stride in anchors:
            copy.combine(f"{prefix}{stride}_exp", Arithmetic.LESSER, np.array([largest], np.float32))

    plants: dict[str, Callable[[Editable], None]] = {
        f"the first row of stride {coarsest} a row too low": _at_least(f"{prefix}{coarsest}_rows_float"),
        f"the first column of stride {coarsest} a column too far": _at_least(f"{prefix}{coarsest}_columns_float"),
        f"no box above {largest:g} times its anchor": cap,
        f"an anchor of stride {finest} too large by 0.1 %": lambda copy: copy.combine(
            f"{prefix}{finest}_exp", Arithmetic.MULTIPLY, first
        ),
    }
    return tuple(Fault(Stage.INSIDE, name, plant) for name, plant in plants.items())


def threshold_faults(score: float, overlap: float) -> tuple[Fault, ...]:
    """Return the faults of decoding with other thresholds than the task's, a `score` and an `overlap`."""
    return (
        Fault(Stage.DECODING, "NMS at the wrong threshold", decode=_with(iou=min(overlap + 0.2, 1.0))),
        Fault(Stage.DECODING, "score threshold too high", decode=_with(score=max(0.5, (1 + score) / 2))),
        Fault(Stage.DECODING, "score threshold too low", decode=_with(score=0.4 * score)),
    )


def image_faults(noun: str, last_pixel: int) -> tuple[Fault, ...]:
    """Return the faults of decoding with another size, or another image of the batch."""
    wrong, right = ("W", "W - 1") if last_pixel else ("W + 1", "W")
    return (
        Fault(Stage.DECODING, f"boxes clipped to {wrong} instead of {right}", decode=_clip_a_pixel_late),
        Fault(Stage.DECODING, "boxes not clipped", decode=_clip_never),
        Fault(
            Stage.DECODING, f"first image's {noun}s for the whole batch", decode=_take_first_image, at_other_size=True
        ),
    )


def swap_outputs(copy: Editable, names: Sequence[str]) -> None:
    """Exchange two outputs, such as those of two strides, which differ only in height and width."""
    order = copy.outputs
    if len(names) < 2 or not {*names} <= {*order}:
        raise NotThereError("the heads are not outputs of the file")
    first, second = names
    copy.rename_outputs({first: second, second: first})
    copy.reorder_outputs(order)


def permute_channels(copy: Editable, output: str, order: Indices) -> None:
    """Give each channel of an output the weights of the channel that `order` names."""
    name = copy.convolution_behind(output)
    weight, bias = copy.weight(name), copy.bias(name)
    copy.set_weight(name, weight[order])
    if bias is not None:
        copy.set_bias(name, bias[order])


def _scores(by: Arithmetic, value: float) -> Callable[[Editable], None]:
    return lambda copy: copy.combine(SCORES, by, np.array([[value]], np.float32))


def _scores_of_one(copy: Editable) -> None:
    """Set the scores of detections to 1. The zeros after the last detection stay."""
    _scores(Arithmetic.MULTIPLY, 1e6)(copy)
    _scores(Arithmetic.LESSER, 1)(copy)


def _exchange_two_boxes(copy: Editable) -> None:
    """Exchange the boxes of the best detection and the eighth, whose scores are far apart."""
    _, rows, _ = copy.output_shape(BOXES)
    order, other = [*range(rows)], min(7, rows - 1)
    order[0], order[other] = other, 0
    copy.take(BOXES, order, 1)


def _add_to_count(number: int) -> Callable[[Editable], None]:
    return lambda copy: copy.combine(COUNT, Arithmetic.ADD, np.array([number], np.int32))


def _in_last_row(output: str, value: float) -> Callable[[Editable], None]:
    """Add a value to the last row, which detections almost never fill."""

    def plant(copy: Editable) -> None:
        values: Floats = np.zeros((1, *copy.output_shape(output)[1:]), np.float32)
        values[:, -1] = value
        copy.combine(output, Arithmetic.ADD, values)

    return plant


def _reverse_scores(copy: Editable) -> None:
    _, rows = copy.output_shape(SCORES)
    copy.take(SCORES, range(rows)[::-1], 1)


def _round_boxes(copy: Editable) -> None:
    """Round as FP16 does from 512 to 1024, by a number whose last place is a half.

    A runtime that computes in float32 leaves out conversions to FP16. The minimum keeps it from adding both numbers.
    """
    large = np.full((1, 1, 1), 1.5 * 2**22, np.float32)
    copy.combine(BOXES, Arithmetic.ADD, large)
    copy.combine(BOXES, Arithmetic.LESSER, 4 * large)
    copy.combine(BOXES, Arithmetic.ADD, -large)


def _at_least(tensor: str) -> Callable[[Editable], None]:
    """Return a fault that gives the first place of a row or column of numbers the number of the second."""
    return lambda copy: copy.combine(tensor, Arithmetic.GREATER, np.ones(1, np.float32))


def _with(**thresholds: float) -> Callable[[Any, Outputs, Size], list[Detections]]:
    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
        detections: list[Detections] = task.with_thresholds(**thresholds).decode(outputs, image_size)
        return detections

    return decode


def _clip_a_pixel_late(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
    height, width = image_size
    detections: list[Detections] = task.decode(outputs, (height + 1, width + 1))
    return detections


def _clip_never(task: Any, outputs: Outputs, _image_size: Size) -> list[Detections]:
    """Decode without limits to the right and below."""
    detections: list[Detections] = task.decode(outputs, (1 << 20, 1 << 20))
    return detections


def _take_first_image(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
    detections = task.decode(outputs, image_size)
    return [detections[0]] * len(detections)
