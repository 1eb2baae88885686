"""The contribution of one image to the figures.

`omz.judge` and `wider.judge` judge an image; `omz.finish` and `wider.finish` compute the figures from the records of
all images alone. Only `finish` combines images (order of the dataset, normalisation of scores, sums), after it sorts
the records by `index`. So a run can be split over processes and machines, and gives the same figures to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sshconvert.arrays import Doubles
from sshconvert.errors import EvaluationError

# The outcome of a prediction, by the same letters in both protocols.
HIT: Final = "T"  # the first on a face that counts: a true positive
DUPLICATE: Final = "D"  # on a face with a better prediction: a false positive
FALSE: Final = "F"  # on no face: a false positive
NEITHER: Final = "N"  # on a face that does not count, or (`wider`) in an image that contributes nothing


@dataclass(frozen=True)
class Judgement:
    """One image under one protocol, by setting: "mAP" for `omz`; the settings of the ground truth for `wider`.

    `outcomes[setting]` has a letter for each of `scores`, in the order of the predictions, which decides between equal
    scores. `faces[setting]` is the number of faces that count.
    """

    scores: Doubles
    outcomes: Mapping[str, str]
    faces: Mapping[str, int]


@dataclass(frozen=True)
class ImageRecord:
    """One image: its number and its path in the dataset, and its judgements by protocol ("omz", "wider").

    `failure` is the reason for an image without predictions, "" for an image that was evaluated. The faces of an image
    with a failure count as missed, and the result reports it.
    """

    index: int
    image: str
    protocols: Mapping[str, Judgement] = field(default_factory=dict)
    failure: str = ""


def in_order(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Records in the order of the dataset. Raises EvaluationError for a duplicate image."""
    ordered = sorted(records, key=lambda record: record.index)
    for one, other in itertools.pairwise(ordered):
        if one.index == other.index:
            raise EvaluationError(f"{one.image}: occurs twice (as number {one.index}); merge each part once")
    return ordered
