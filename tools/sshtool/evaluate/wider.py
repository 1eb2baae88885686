"""`wider`: the official evaluation of WIDER FACE, easy, medium and hard."""

from __future__ import annotations

from collections.abc import Iterable

from sshtool.evaluate.curves import Result
from sshtool.evaluate.ground_truth import ImageTruth
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import ImageRecord, Judgement


def judge(truth: ImageTruth, predictions: Predictions) -> Judgement:
    """Rule 4 for one image, in each setting."""
    raise NotImplementedError


def finish(records: Iterable[ImageRecord]) -> Result:
    """Rules 3, 5 and 6 over the data set."""
    raise NotImplementedError
