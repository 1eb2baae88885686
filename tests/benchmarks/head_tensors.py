"""Head tensors of every kind that strains a rule of the post-processing, drawn by seeds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.models.registry import load_model
from sshconvert.tasks.anchor_detection import AnchorDetection


def _task() -> AnchorDetection:
    task = load_model("ssh-mxnet").task
    assert isinstance(task, AnchorDetection)
    return task


RULES: Final = _task()
Size = tuple[int, int, int]  # number of images, height, width

KINDS: Final = ("dense", "sparse", "ties", "one score", "on the threshold", "wild", "still", "nothing")


def heads_of(kind: str, size: Size, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Head tensors of a kind that strains a rule."""
    random: Any = np.random.RandomState(seed)
    number, height, width = size
    tensors = {}
    for head in RULES.heads:
        anchors, cells = len(head.scales), (height // head.stride, width // head.stride)
        scores = random.random_sample((number, 2 * anchors, *cells)).astype(np.float32)
        deltas = random.standard_normal((number, 4 * anchors, *cells)).astype(np.float32) * np.float32(0.3)
        if kind == "sparse":
            scores **= 40
        elif kind == "ties":
            scores = np.round(scores * 8).astype(np.float32) / np.float32(8)
        elif kind == "one score":
            scores[:] = 0.5
        elif kind == "on the threshold":
            scores = np.where(scores < 0.5, np.float32(0.05), np.nextafter(np.float32(0.05), np.float32(0)))
        elif kind == "wild":
            deltas *= 40
        elif kind == "still":
            deltas[:] = 0
        elif kind == "nothing":
            scores *= np.float32(0.01)
        tensors[head.scores], tensors[head.boxes] = scores, deltas
    return tensors


def crowd(seed: int, faces: int = 150) -> dict[str, npt.NDArray[np.float32]]:
    """Head tensors for 640x640 as they are where people stand close together: many anchors find each of the faces.

    Thousands of them are above the threshold. Every anchor predicts the nearest face, with a score that falls with the
    overlap; those that see little of it guess.
    """
    random: Any = np.random.RandomState(seed)
    side = 12 * 2 ** (4.5 * random.random_sample(faces))
    left, top = (random.random_sample(faces) * 640 - side / 2 for _ in range(2))
    targets = np.stack([left, top, left + side - 1, top + side - 1], axis=1)
    tensors = {}
    for head in RULES.heads:
        cells = 640 // head.stride
        scores, deltas = np.zeros((1, 4, cells, cells), np.float32), np.zeros((1, 8, cells, cells), np.float32)
        rows, columns = np.mgrid[:cells, :cells] * head.stride + 7.5
        for number, scale in enumerate(head.scales):
            size = head.base_size * scale
            x, y, sizes = (targets[:, 0] + targets[:, 2]) / 2, (targets[:, 1] + targets[:, 3]) / 2, side
            apart = np.maximum(np.abs(columns[..., None] - x), np.abs(rows[..., None] - y))
            shared = np.clip((sizes + size) / 2 - apart, 0, np.minimum(sizes, size)) ** 2
            overlap = shared / (sizes**2 + size**2 - shared)
            best, most = np.argmax(overlap, axis=2), np.max(overlap, axis=2)
            noise = random.standard_normal((4, cells, cells)) * np.where(most > 0.2, 0.05, 0.4)
            scores[0, 2 + number] = np.clip(1.3 * most - 0.15 + 0.05 * random.standard_normal(most.shape), 0.001, 1)
            deltas[0, 4 * number] = (x[best] - columns) / size + noise[0]
            deltas[0, 4 * number + 1] = (y[best] - rows) / size + noise[1]
            deltas[0, 4 * number + 2 : 4 * number + 4] = np.log(sizes[best] / size) + noise[2:]
        scores[0, :2] = 1 - scores[0, 2:]
        tensors[head.scores], tensors[head.boxes] = scores, deltas
    return tensors
