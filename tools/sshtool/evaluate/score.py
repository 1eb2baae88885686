"""Score saved predictions, anybody's, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sshtool.evaluate.curves import Result
from sshtool.evaluate.ground_truth import GroundTruth, ImageTruth
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import ImageRecord


def judge_image(
    index: int, truth: ImageTruth, predictions: dict[str, Predictions], protocols: Sequence[str], failure: str = ""
) -> ImageRecord:
    """Judge one image under `protocols`, whose predictions may differ: {"omz": ..., "wider": ...}."""
    raise NotImplementedError


def finish(records: Sequence[ImageRecord], protocol: str) -> Result:
    """The figures of "omz" or "wider"."""
    raise NotImplementedError


def score_predictions(truth: GroundTruth, folder: Path, protocol: str) -> Result:
    """Score a folder of predictions in the official text format."""
    raise NotImplementedError
