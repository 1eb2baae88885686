"""Detections as rows of x1, y1, x2, y2, score, and the task of SSH."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sshconvert.arrays import Array
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.results import Detections


def anchor_task(model: ModelSpec) -> AnchorDetection:
    assert isinstance(model.task, AnchorDetection)
    return model.task


def detections(rows: npt.ArrayLike) -> Detections:
    table = np.asarray(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def table(found: Detections) -> Array:
    """[K, 5]."""
    return np.column_stack([found.boxes, found.scores])


SSH: Final = anchor_task(load_model("ssh-mxnet"))
