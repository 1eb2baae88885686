"""Curves of precision against recall, and the faults in each image."""

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

# Faults count boxes from this score on. Average precision does not depend on it.
SHOWN: Final = 0.5


@dataclass(frozen=True)
class Curve:
    """One setting: precision and recall, both 0-1, along falling score, and the area under the envelope of precision.

    `scores` are the scores of the points (for `wider`, thresholds on normalised scores). Precision is NaN at 0 / 0.
    `faces` is the number of faces that count; without any the average precision is undefined, and 0.
    """

    setting: str
    average_precision: float
    precision: Doubles
    recall: Doubles
    scores: Doubles
    faces: int


@dataclass(frozen=True)
class ImageFaults:
    """The faults in an image in one setting, among predictions with a score of at least 0.5 (`SHOWN`).

    `misses` counts undetected faces among those that count, `false_boxes` predictions on no face and duplicates.
    """

    image: str
    setting: str
    faces: int
    misses: int
    false_boxes: int


@dataclass(frozen=True)
class Result:
    """The result of one protocol.

    `faults` covers every image and setting, in the order of the dataset. `failures` holds (image, reason) for the
    images judged without predictions. `notes` holds sentences about the figures.
    """

    protocol: str
    curves: tuple[Curve, ...]
    images: int
    predictions: int
    faults: tuple[ImageFaults, ...]
    failures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def judgements(records: Sequence[ImageRecord], protocol: str) -> list[Judgement]:
    """The judgements of one protocol.

    Raises EvaluationError if there are none, if an image lacks the protocol, or if the settings of images differ.
    """
    if not records:
        raise EvaluationError("no image was evaluated; name a dataset with images")
    for record in records:
        if protocol not in record.protocols:
            raise EvaluationError(f"{record.image}: was not evaluated by {protocol!r}; evaluate it again")
    results = [record.protocols[protocol] for record in records]
    for record, judgement in zip(records, results, strict=True):
        if judgement.faces.keys() != results[0].faces.keys():
            raise EvaluationError(
                f"{record.image}: has the settings {', '.join(judgement.faces)}, {records[0].image} has "
                f"{', '.join(results[0].faces)}; merge parts of one dataset"
            )
    return results


def make_curve(setting: str, hits: Array, wrong: Array, scores: Doubles, faces: int) -> Curve:
    """A curve from the cumulative counts `hits` and `wrong`, [P], at each of `scores`."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        precision = hits / (hits + wrong)
    recall = hits / max(faces, 1)
    return Curve(setting, area_under_envelope(precision, recall), precision, recall, scores, faces)


def make_result(protocol: str, records: Sequence[ImageRecord], curves: Sequence[Curve], notes: Sequence[str]) -> Result:
    """The result of one protocol from its records and curves."""
    undefined = [
        f"No face counts in {curve.setting}: the figure is not defined." for curve in curves if not curve.faces
    ]
    return Result(
        protocol=protocol,
        curves=tuple(curves),
        images=len(records),
        predictions=sum(len(record.protocols[protocol].scores) for record in records),
        faults=tuple(fault for record in records for fault in _faults(record.image, record.protocols[protocol])),
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
