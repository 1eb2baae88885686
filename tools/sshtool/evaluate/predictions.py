"""Predictions of faces in the official text format: a folder for each event, a file for each image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Predictions:
    """Of one image: `boxes` float64 [K, 4], x, y, w, h in its pixels, and `scores` float64 [K], in any order.

    This is what the text format holds, and what both protocols judge: a run judges what it would save, so that scoring
    its saved predictions gives the run's own figures. From corners, w = x2 - x1 and h = y2 - y1.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


def from_corners(corners: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> Predictions:
    """From `corners` [K, 4], x1, y1, x2, y2."""
    raise NotImplementedError


def prediction_file(folder: Path, image: str) -> Path:
    """Where the predictions for an image ("0--Parade/0_Parade_marchingband_1_849.jpg") lie in a folder."""
    raise NotImplementedError


def write_predictions(folder: Path, image: str, predictions: Predictions) -> Path:
    """Write the file of one image, best first, whole or not at all. Raises OutputError."""
    raise NotImplementedError


def read_predictions(folder: Path, image: str) -> Predictions:
    """Read the file of one image. Raises EvaluationError if it is missing or malformed."""
    raise NotImplementedError
