"""`omz`: the accuracy-checker configuration behind the model card's 84.80% mAP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt

from sshconvert.models import Detection
from sshtool.evaluate.curves import Result
from sshtool.evaluate.ground_truth import ImageTruth
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import ImageRecord, Judgement


def decode(
    outputs: Mapping[str, npt.NDArray[Any]], scales: list[tuple[float, float]], rules: Detection
) -> list[Predictions]:
    """Rule 3, for a batch: `scales` are (scale_x, scale_y) of each image's resize, 640 / width and 640 / height."""
    raise NotImplementedError


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rules 4 to 6 for one image."""
    raise NotImplementedError


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 6 and 7 over the data set."""
    raise NotImplementedError
