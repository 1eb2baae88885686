"""The faults of networks with anchors: in the channels of their heads, and in the decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.editable import Arithmetic
from sshconvert.tasks.anchors import AnchorHead
from sshconvert.tasks.detection_faults import permute_channels, swap_outputs
from sshconvert.tasks.faults import Decode, Editable, Fault, Outputs, Size, Stage
from sshconvert.tasks.inside import NODES
from sshconvert.tasks.results import Detections

SUPPRESSED: Final = f"{NODES}with_last_pixel"  # the boxes that the suppression inside a file compares

Heads = Sequence[AnchorHead]
# Returns changed tensors of heads.
Change = Callable[[Heads, Outputs], dict[str, Array]]


def channel_faults(heads: Heads, noun: str) -> tuple[Fault, ...]:
    """Return faults in the order of outputs, anchors and channels, the latter two in all heads at once.

    The detections of a file with the post-processing inside may all come from one head.
    """
    return (
        Fault(
            Stage.OUTPUTS, "two outputs swapped", lambda copy: swap_outputs(copy, [head.scores for head in heads[-2:]])
        ),
        # Each anchor gets the deltas of the one before, and the first those of the last.
        Fault(
            Stage.CHANNELS,
            "anchors exchanged",
            lambda copy: _roll_channels(copy, {head.boxes: (4 * len(head.sizes), 4) for head in heads}),
        ),
        Fault(
            Stage.CHANNELS,
            f"background and {noun} exchanged",
            lambda copy: _roll_channels(copy, {head.scores: (2 * len(head.sizes), len(head.sizes)) for head in heads}),
        ),
    )


def box_faults(heads: Heads) -> tuple[Fault, ...]:
    """Return faults in the use of deltas and anchors. The first two follow SSH's model card."""
    return (
        Fault(Stage.DECODING, "dw and dh exchanged", decode=_decode(heads, _exchange_width_and_height)),
        Fault(Stage.DECODING, "dx and dy move the corner", decode=_decode(heads, _move_corner)),
        Fault(Stage.DECODING, "anchors without the +1", decode=_shrink_anchors),
    )


def suppression_faults() -> tuple[Fault, ...]:
    """Return the faults of the suppression inside a file."""
    plants: dict[str, Callable[[Editable], None]] = {
        "suppression without the corner pixels": lambda copy: copy.combine(
            SUPPRESSED, Arithmetic.ADD, np.array([0, 0, -1, -1], np.float32)
        ),
        "nothing suppressed": lambda copy: copy.combine(SUPPRESSED, Arithmetic.MULTIPLY, np.zeros(1, np.float32)),
    }
    return tuple(Fault(Stage.INSIDE, name, plant) for name, plant in plants.items())


def score_faults(heads: Heads, noun: str) -> tuple[Fault, ...]:
    """Return the fault of reading the wrong half of the score channels."""
    name = f"background score taken for {noun} score"
    return (Fault(Stage.DECODING, name, decode=_decode(heads, _take_background)),)


def _roll_channels(copy: Editable, outputs: Mapping[str, tuple[int, int]]) -> None:
    """Move the channels of outputs, of a number, by a distance, and the last ones to the front."""
    for output, (channels, distance) in outputs.items():
        permute_channels(copy, output, np.roll(np.arange(channels), distance))


def _decode(heads: Heads, change: Change) -> Decode:
    """Return a decoding of changed tensors."""

    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
        detections: list[Detections] = task.decode({**outputs, **change(heads, outputs)}, image_size)
        return detections

    return decode


def _shrink_anchors(task: Any, outputs: Outputs, image_size: Size) -> list[Detections]:
    heads = tuple(head.model_copy(update={"base_size": head.base_size - 1}) for head in task.heads)
    detections: list[Detections] = task.model_copy(update={"heads": heads}).decode(outputs, image_size)
    return detections


def _exchange_width_and_height(heads: Heads, outputs: Outputs) -> dict[str, Array]:
    return _with_deltas(heads, outputs, lambda deltas: deltas[:, :, [0, 1, 3, 2]])


def _move_corner(heads: Heads, outputs: Outputs) -> dict[str, Array]:
    """Let (dx, dy) move the upper left corner, so that half of the growth moves the centre too."""

    def move(deltas: Array) -> Array:
        growth = np.exp(deltas[:, :, 2:]) - 1
        return np.concatenate([deltas[:, :, :2] + 0.5 * growth, deltas[:, :, 2:]], axis=2)

    return _with_deltas(heads, outputs, move)


def _take_background(heads: Heads, outputs: Outputs) -> dict[str, Array]:
    return {head.scores: np.roll(outputs[head.scores], len(head.sizes), axis=1) for head in heads}


def _with_deltas(heads: Heads, outputs: Outputs, change: Callable[[Array], Array]) -> dict[str, Array]:
    """Return the deltas of each head after `change`, which takes [N, A, 4, H, W]."""
    changed = {}
    for head in heads:
        deltas = outputs[head.boxes]
        batch, channels, height, width = deltas.shape
        changed[head.boxes] = change(deltas.reshape(batch, channels // 4, 4, height, width)).reshape(deltas.shape)
    return changed
