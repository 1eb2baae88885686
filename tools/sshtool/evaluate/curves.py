"""Figures of an evaluation: precision against recall, and what each image got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Doubles
from sshconvert.errors import EvaluationError
from sshconvert.tasks.average_precision import area_under_envelope
from sshtool.evaluate.records import DUPLICATE, FALSE, HIT, ImageRecord, Judgement

# At which a box is taken to be shown, for counting what an image got wrong. Figures do not depend on it.
SHOWN: Final = 0.5


@dataclass(frozen=True)
class Curve:
    """One setting: precision against recall, both 0-1, along falling score, and the area under its envelope.

    `scores` are those of the points, for `wider` thresholds on normalised scores. Precision is NaN where there is
    nothing yet (0 of 0). `faces` counts those that count; without any the figure is not defined, and 0.
    """

    setting: str
    average_precision: float
    precision: Doubles
    recall: Doubles
    scores: Doubles
    faces: int


@dataclass(frozen=True)
class ImageFaults:
    """What an image got wrong in one setting, looking at predictions with a score of at least `SHOWN`.

    `misses` are faces that count and were not found, `false_boxes` predictions on no face and second ones on one.
    """

    image: str
    setting: str
    faces: int
    misses: int
    false_boxes: int


@dataclass(frozen=True)
class Result:
    """Of one protocol. `faults` are of every image and setting, in the order of the data set; `failures` are (image,
    reason) of those judged without predictions; `notes` say what else to know about the figures, a sentence each.
    """

    protocol: str
    curves: tuple[Curve, ...]
    images: int
    predictions: int
    faults: tuple[ImageFaults, ...]
    failures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def judgements(records: Sequence[ImageRecord], protocol: str) -> list[Judgement]:
    """Those of one protocol.

    Raises EvaluationError if there are none, an image lacks it, or the images have different settings.
    """
    if not records:
        raise EvaluationError("no image was evaluated; name a data set with images")
    for record in records:
        if protocol not in record.protocols:
            raise EvaluationError(f"{record.image}: was not evaluated by {protocol!r}; evaluate it again")
    found = [record.protocols[protocol] for record in records]
    for record, judgement in zip(records, found, strict=True):
        if judgement.faces.keys() != found[0].faces.keys():
            raise EvaluationError(
                f"{record.image}: has the settings {', '.join(judgement.faces)}, {records[0].image} has "
                f"{', '.join(found[0].faces)}; merge parts of one data set"
            )
    return found


def make_curve(setting: str, hits: Array, wrong: Array, scores: Doubles, faces: int) -> Curve:
    """From `hits` and `wrong` so far, [P], at each of `scores`."""
    with np.errstate(invalid="ignore"):  # 0 of 0
        precision = hits / (hits + wrong)
    recall = hits / max(faces, 1)
    return Curve(setting, area_under_envelope(precision, recall), precision, recall, scores, faces)


def make_result(protocol: str, records: Sequence[ImageRecord], curves: Sequence[Curve], notes: Sequence[str]) -> Result:
    """Put together what `records` and `curves` of one protocol say."""
    found = [record.protocols[protocol] for record in records]
    undefined = [
        f"No face counts in {curve.setting}: the figure is not defined." for curve in curves if not curve.faces
    ]
    return Result(
        protocol=protocol,
        curves=tuple(curves),
        images=len(records),
        predictions=sum(len(judgement.scores) for judgement in found),
        faults=tuple(
            fault
            for record, judgement in zip(records, found, strict=True)
            for fault in _faults(record.image, judgement)
        ),
        failures=tuple((record.image, record.failure) for record in records if record.failure),
        notes=(*notes, *undefined),
    )


def _faults(image: str, judgement: Judgement) -> list[ImageFaults]:
    shown = judgement.scores >= SHOWN
    faults = []
    for setting, faces in judgement.faces.items():
        letters = "".join(compress(judgement.outcomes[setting], shown))
        false_boxes = letters.count(FALSE) + letters.count(DUPLICATE)
        faults.append(ImageFaults(image, setting, faces, faces - letters.count(HIT), false_boxes))
    return faults
