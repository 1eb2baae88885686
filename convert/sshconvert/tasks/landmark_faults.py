"""The faults of landmarks and attributes: in the channels of heads with anchors, in the decoding, and inside a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.editable import Arithmetic
from sshconvert.tasks.anchors import AnchorHead
from sshconvert.tasks.faults import Editable, Fault, Outputs, Size, Stage
from sshconvert.tasks.inside import ATTRIBUTES, LANDMARKS, Columns
from sshconvert.tasks.results import Detections

WRONG_DEVIATION: Final = 0.2  # that of InsightFace's network "net3l", which others lack

# Returns the channels [C, …] of a head's tensor, or of the weight or bias that computes it, in another order or scaled.
Change = Callable[[AnchorHead, Array], Array]


def landmark_faults(heads: Sequence[AnchorHead]) -> tuple[Fault, ...]:
    """Return the faults of landmarks in all heads at once; none without landmarks."""
    names = {head.landmarks: head for head in heads if head.landmarks}
    return (
        *_faults("landmarks with x and y exchanged", names, _exchange_x_and_y),
        *_faults("landmarks scaled", names, lambda _, values: values * values.dtype.type(WRONG_DEVIATION)),
        *_faults("landmarks of another anchor", names, lambda head, values: np.roll(values, 2 * head.points, axis=0)),
    )


def attribute_faults(heads: Sequence[AnchorHead]) -> tuple[Fault, ...]:
    """Return the faults of attributes in all heads at once; none without attributes."""
    names = {head.attributes.tensor: head for head in heads if head.attributes}
    return _faults(
        "attributes from the wrong channel block",
        names,
        lambda head, values: np.roll(values, len(head.sizes), axis=0),
    )


def column_faults(columns: Columns, noun: str) -> tuple[Fault, ...]:
    """Return the faults of landmarks and attributes in a file with the post-processing inside."""
    plants: dict[str, Callable[[Editable], None]] = {}
    if columns.points:
        plants |= {
            "x and y of the landmarks exchanged inside": lambda copy: copy.take(LANDMARKS, [1, 0], 3),
            "landmarks scaled inside": partial(_scale, output=LANDMARKS, factor=WRONG_DEVIATION),
            f"landmarks of another {noun}": partial(_exchange_first_two, output=LANDMARKS),
        }
    if columns.attributes:
        plants |= {
            "attributes halved inside": partial(_scale, output=ATTRIBUTES, factor=0.5),
            f"attributes of another {noun}": partial(_exchange_first_two, output=ATTRIBUTES),
        }
    return tuple(Fault(Stage.INSIDE, name, plant) for name, plant in plants.items())


def _faults(name: str, heads: Mapping[str, AnchorHead], change: Change) -> tuple[Fault, ...]:
    """Return a fault in the file and one in the decoding, for the heads by the name of their tensor; () for none."""
    if not heads:
        return ()
    return (
        Fault(Stage.CHANNELS, name, partial(_change_channels, heads=heads, change=change)),
        Fault(Stage.DECODING, f"decoding of {name}", decode=partial(_decode_changed, heads, change)),
    )


def _exchange_x_and_y(_: AnchorHead, values: Array) -> Array:
    exchanged: Array = values[np.arange(len(values)).reshape(-1, 2)[:, ::-1].ravel()]
    return exchanged


def _change_channels(copy: Editable, heads: Mapping[str, AnchorHead], change: Change) -> None:
    for output, head in heads.items():
        name = copy.convolution_behind(output)
        weight, bias = copy.weight(name), copy.bias(name)
        copy.set_weight(name, change(head, weight))
        if bias is not None:
            copy.set_bias(name, change(head, bias))


def _decode_changed(
    heads: Mapping[str, AnchorHead], change: Change, task: Any, outputs: Outputs, image_size: Size
) -> list[Detections]:
    changed = {name: np.stack([change(head, image) for image in outputs[name]]) for name, head in heads.items()}
    detections: list[Detections] = task.decode({**outputs, **changed}, image_size)
    return detections


def _scale(copy: Editable, output: str, factor: float) -> None:
    copy.combine(output, Arithmetic.MULTIPLY, np.full((1,) * len(copy.output_shape(output)), factor, np.float32))


def _exchange_first_two(copy: Editable, output: str) -> None:
    """Exchange the rows of the best two detections. A row of zeros takes the place of a second one that is missing."""
    rows = copy.output_shape(output)[1]
    copy.take(output, [1, 0, *range(2, rows)][:rows], 1)
