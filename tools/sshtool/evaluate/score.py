"""Score saved predictions, anybody's, without a model.

Both protocols take the official text format. `wider` is defined on it. `omz` applies its rules 4 to 7 to what the files
hold; its rule 3, how boxes come out of the network, cannot be applied afterwards, so the figure compares to the
published one only if the files hold boxes made by it (`sshtool.evaluate.omz.decode`): of one stretched scale, without
a threshold, suppressed per stride.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sshconvert.errors import EvaluationError, UsageError
from sshconvert.reading import is_file
from sshtool.evaluate import omz, wider
from sshtool.evaluate.curves import Result
from sshtool.evaluate.predictions import NONE, Predictions, prediction_file, read_predictions, strangers
from sshtool.evaluate.records import ImageRecord
from sshtool.wider_face.ground_truth import GroundTruth, ImageTruth

PROTOCOLS: Final = (omz.PROTOCOL, wider.PROTOCOL)

ANYBODYS_OMZ: Final = (
    "Rules 4 to 7 of omz were applied to the files as they are: the figure compares to the published one only if they "
    "hold boxes made by rule 3."
)


def judge_image(
    index: int, truth: ImageTruth, predictions: Mapping[str, Predictions], *, failure: str = ""
) -> ImageRecord:
    """Judge one image by the protocols that are keys of `predictions`, each by its own: {"omz": ..., "wider": ...}.

    With a `failure` the predictions are `NONE`. Raises UsageError for an unknown protocol.
    """
    judged = {
        name: omz.judge(truth, found) if _is_omz(name) else wider.judge(truth, found)
        for name, found in predictions.items()
    }
    return ImageRecord(index, truth.image, judged, failure)


def finish(records: Sequence[ImageRecord], protocol: str) -> Result:
    """The figures of "omz" or "wider".

    Raises EvaluationError if the records do not belong together, UsageError for an unknown protocol.
    """
    return omz.finish(records) if _is_omz(protocol) else wider.finish(records)


def score_predictions(truth: GroundTruth, folder: Path, protocol: str) -> Result:
    """Score a folder of predictions in the official text format, a folder for each event in it.

    A missing or unreadable file counts as no prediction, and is one of the result's failures. Files that belong to no
    image are noted. Raises EvaluationError if there is no file for any image, UsageError for an unknown protocol.
    """
    notes = _notes(truth, folder, protocol)
    if not any(is_file(prediction_file(folder, image.image)) for image in truth.images):
        example = prediction_file(folder, truth.images[0].image)
        raise EvaluationError(
            f"{folder}: holds predictions for none of the {len(truth.images)} images (such as {example}); "
            "name the folder that holds the events' folders"
        )
    result = finish([_record(index, image, folder, protocol) for index, image in enumerate(truth.images)], protocol)
    return replace(result, notes=(*result.notes, *notes))


def _record(index: int, image: ImageTruth, folder: Path, protocol: str) -> ImageRecord:
    try:
        return judge_image(index, image, {protocol: read_predictions(folder, image.image)})
    except EvaluationError as error:
        return judge_image(index, image, {protocol: NONE}, failure=str(error))


def _notes(truth: GroundTruth, folder: Path, protocol: str) -> list[str]:
    notes = [ANYBODYS_OMZ] if _is_omz(protocol) else []
    others = strangers(folder, [image.image for image in truth.images])
    if others:
        notes.append(f"{len(others)} files of predictions belong to no image of the data set, such as {others[0]}.")
    return notes


def _is_omz(protocol: str) -> bool:
    if protocol not in PROTOCOLS:
        raise UsageError(f"{protocol!r} is no protocol; choose from {', '.join(PROTOCOLS)}")
    return protocol == omz.PROTOCOL
