"""Scores saved predictions, without a model.

Both protocols take WIDER FACE's text format, on which `wider` is defined. `omz` applies its rules 4 to 7 to the boxes
in the files. Its figure compares to the published one only if these boxes follow its rule 3 (`omz.decode`): one
stretched scale, no threshold, suppression per stride.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sshconvert.errors import EvaluationError, UsageError
from sshconvert.models.protocols import OmzRules
from sshconvert.reading import is_file
from sshtool.evaluate import omz, wider
from sshtool.evaluate.curves import Result
from sshtool.evaluate.predictions import NONE, Predictions, prediction_file, read_predictions, unmatched_files
from sshtool.evaluate.records import ImageRecord
from sshtool.wider_face.ground_truth import GroundTruth, ImageTruth

PROTOCOLS: Final = (omz.PROTOCOL, wider.PROTOCOL)

SAVED_OMZ: Final = (
    "Rules 4 to 7 of omz were applied to the files as they are: the figure compares to the published one only if they "
    "hold boxes made by rule 3."
)


def judge_image(
    index: int,
    truth: ImageTruth,
    predictions: Mapping[str, Predictions],
    *,
    failure: str = "",
    rules: OmzRules = omz.SSH,
) -> ImageRecord:
    """Judge one image's predictions by protocol: {"omz": ..., "wider": ...}. `rules` are those of omz.

    With a `failure` the predictions are `NONE`. Raises UsageError for an unknown protocol.
    """
    judgements = {
        name: omz.judge(truth, boxes, rules) if _is_omz(name) else wider.judge(truth, boxes)
        for name, boxes in predictions.items()
    }
    return ImageRecord(index, truth.image, judgements, failure)


def finish(records: Sequence[ImageRecord], protocol: str) -> Result:
    """The figures of "omz" or "wider".

    Raises EvaluationError if the records do not belong together, UsageError for an unknown protocol.
    """
    return omz.finish(records) if _is_omz(protocol) else wider.finish(records)


def score_predictions(truth: GroundTruth, folder: Path, protocol: str, rules: OmzRules = omz.SSH) -> Result:
    """Score a folder of predictions in WIDER FACE's text format. `rules` are those of omz.

    A missing or unreadable file counts as no prediction, and is a failure of the result. A note counts the files that
    belong to no image. Raises EvaluationError if no image has a file, UsageError for an unknown protocol.
    """
    notes = _notes(truth, folder, protocol)
    if not any(is_file(prediction_file(folder, image.image)) for image in truth.images):
        example = prediction_file(folder, truth.images[0].image)
        raise EvaluationError(
            f"{folder}: holds predictions for none of the {len(truth.images)} images (such as {example}); "
            "name the folder that holds the events' folders"
        )
    result = finish(
        [_record(index, image, folder, protocol, rules) for index, image in enumerate(truth.images)], protocol
    )
    return replace(result, notes=(*result.notes, *notes))


def _record(index: int, image: ImageTruth, folder: Path, protocol: str, rules: OmzRules) -> ImageRecord:
    try:
        return judge_image(index, image, {protocol: read_predictions(folder, image.image)}, rules=rules)
    except EvaluationError as error:
        return judge_image(index, image, {protocol: NONE}, failure=str(error), rules=rules)


def _notes(truth: GroundTruth, folder: Path, protocol: str) -> list[str]:
    notes = [SAVED_OMZ] if _is_omz(protocol) else []
    others = unmatched_files(folder, [image.image for image in truth.images])
    if others:
        notes.append(f"{len(others)} files of predictions belong to no image of the dataset, such as {others[0]}.")
    return notes


def _is_omz(protocol: str) -> bool:
    if protocol not in PROTOCOLS:
        raise UsageError(f"{protocol!r} is not a protocol; choose from {', '.join(PROTOCOLS)}")
    return protocol == omz.PROTOCOL
