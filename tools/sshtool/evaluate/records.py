"""What one image contributes to the figures: small, exact, and enough to finish both protocols without the data set.

A run makes an `ImageRecord` for each image as it goes (`omz.judge`, `wider.judge`); a figure is made of records alone
(`omz.finish`, `wider.finish`). So a run may be split over processes and machines, stored line by line, killed and
resumed: whatever records there are, in whatever order, give the same figure to the last bit, because everything that
depends on more than one image (ordering over the data set, normalisation of scores, sums) happens at the end, on
records put into the order of the data set by their `index`.

On disk a record is one line of JSON (`to_line`, `from_line`). Scores are stored as the base64 of little-endian
float64, and what became of each prediction as one letter, so that a thousand predictions take 12 KB.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.errors import EvaluationError

# What became of a prediction. Both protocols use the same letters.
HIT: Final = "T"  # the first to find a face that counts
DUPLICATE: Final = "D"  # on a face that a better prediction has found: a false positive
FALSE: Final = "F"  # on no face: a false positive
NEITHER: Final = "N"  # on a face that does not count, or (`wider`) in an image that contributes nothing
LETTERS: Final = frozenset((HIT, DUPLICATE, FALSE, NEITHER))


@dataclass(frozen=True)
class Judgement:
    """Of one image under one protocol: `outcomes[name]` has a letter for each of `scores`, in the order in which the
    predictions came, because that decides between equal scores.

    `faces[name]` counts the faces that count, whether found or not. The names are the settings of the protocol:
    `omz` has one, "mAP"; `wider` has "easy", "medium" and "hard", or what the ground truth calls them.
    """

    scores: npt.NDArray[np.float64]
    outcomes: Mapping[str, str]
    faces: Mapping[str, int]


@dataclass(frozen=True)
class ImageRecord:
    """One image of the data set: its place in the order of the data set, its path there, and its judgements.

    `protocols` holds what was evaluated, "omz", "wider" or both. `failure` says why there are no predictions for the
    image ("" if all went well): it is then judged as an image without predictions, its faces count as missed, and
    the results report it.
    """

    index: int
    image: str
    protocols: Mapping[str, Judgement] = field(default_factory=dict)
    failure: str = ""


def to_line(record: ImageRecord) -> str:
    """Write a record as one line of JSON, without the newline. The same record gives the same line."""
    protocols = {
        name: {
            "scores": _encode(judgement.scores),
            "outcomes": dict(judgement.outcomes),
            "faces": dict(judgement.faces),
        }
        for name, judgement in record.protocols.items()
    }
    body = {"index": record.index, "image": record.image, "failure": record.failure, "protocols": protocols}
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def from_line(line: str, place: str) -> ImageRecord:
    """Read back what `to_line` wrote. Raises EvaluationError, which names `place`, if it is damaged or cut off."""
    try:
        body = json.loads(line)
        protocols = {name: _judgement(entry) for name, entry in body["protocols"].items()}
        record = ImageRecord(body["index"], body["image"], protocols, body["failure"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvaluationError(f"{place}: is not a record ({error}); evaluate this part again") from None
    if type(record.index) is not int or record.index < 0 or type(record.image) is not str:
        raise EvaluationError(f"{place}: has no index and image; evaluate this part again")
    if type(record.failure) is not str:
        raise EvaluationError(f"{place}: its failure is not a text; evaluate this part again")
    return record


def in_order(records: Iterable[ImageRecord], count: int | None = None) -> list[ImageRecord]:
    """Records in the order of the data set.

    Raises EvaluationError if an image is there twice, or, with `count`, if any of 0 ... count - 1 is missing.
    """
    ordered = sorted(records, key=lambda record: record.index)
    for one, other in itertools.pairwise(ordered):
        if one.index == other.index:
            raise EvaluationError(f"{one.image}: is there twice (as number {one.index}); merge each part once")
    if count is not None and [record.index for record in ordered] != list(range(count)):
        missing = sorted(set(range(count)) - {record.index for record in ordered})
        what = f"the first is number {missing[0]}" if missing else "some are beyond its end"
        raise EvaluationError(
            f"the parts hold {len(ordered)} images of {count}, {what}; merge all parts of one data set"
        )
    return ordered


def _judgement(entry: Any) -> Judgement:
    scores = _decode(entry["scores"])
    outcomes, faces = dict(entry["outcomes"]), dict(entry["faces"])
    if outcomes.keys() != faces.keys():
        raise ValueError("outcomes and faces have different settings")
    for name, letters in outcomes.items():
        if type(letters) is not str or len(letters) != len(scores) or not LETTERS.issuperset(letters):
            raise ValueError(f"{name}: one letter of {', '.join(sorted(LETTERS))} for each score expected")
        if type(faces[name]) is not int or letters.count(HIT) > faces[name]:
            raise ValueError(f"{name}: more faces found than there are")
    if not np.isfinite(scores).all():
        raise ValueError("the scores are not finite")
    return Judgement(scores, outcomes, faces)


def _encode(scores: npt.NDArray[np.float64]) -> str:
    return base64.b64encode(scores.astype("<f8").tobytes()).decode("ascii")


def _decode(text: str) -> npt.NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
