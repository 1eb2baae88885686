"""Figures of an evaluation: precision against recall, and what each image got wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# At which a box is taken to be shown, for counting what an image got wrong. Figures do not depend on it.
SHOWN: Final = 0.5


@dataclass(frozen=True)
class Curve:
    """One setting: precision against recall, both 0-1, along falling score, and the area under its envelope."""

    setting: str
    average_precision: float
    precision: Floats
    recall: Floats
    scores: Floats  # of each point; for `wider` the threshold on normalised scores
    faces: int  # that count


@dataclass(frozen=True)
class ImageFaults:
    """What an image got wrong in one setting, looking at predictions with a score of at least `SHOWN`."""

    image: str
    setting: str
    faces: int
    misses: int  # faces that count and no shown prediction found
    false_boxes: int  # shown predictions on no face, and second ones on one


@dataclass(frozen=True)
class Result:
    """Of one protocol. `failures` are (image, reason) of those judged without predictions."""

    protocol: str
    curves: tuple[Curve, ...]
    images: int
    predictions: int
    faults: tuple[ImageFaults, ...]  # of every image and setting, in the order of the data set
    failures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]  # what to know about the figures, a sentence each
