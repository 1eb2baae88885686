"""What one image contributes to the figures: small, exact, and enough to finish both protocols without the data set.

A figure is made of an `ImageRecord` for each image (`omz.judge`, `wider.judge`), and of nothing else (`omz.finish`,
`wider.finish`). So a run may be split over processes and machines: whatever records there are, in whatever order, give
the same figure to the last bit, because everything that depends on more than one image (ordering over the data set,
normalisation of scores, sums) happens at the end, on records put into the order of the data set by their `index`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sshconvert.arrays import Doubles
from sshconvert.errors import EvaluationError

# What became of a prediction. Both protocols use the same letters.
HIT: Final = "T"  # the first to find a face that counts
DUPLICATE: Final = "D"  # on a face that a better prediction has found: a false positive
FALSE: Final = "F"  # on no face: a false positive
NEITHER: Final = "N"  # on a face that does not count, or (`wider`) in an image that contributes nothing


@dataclass(frozen=True)
class Judgement:
    """Of one image under one protocol: `outcomes[name]` has a letter for each of `scores`, in the order in which the
    predictions came, because that decides between equal scores.

    `faces[name]` counts the faces that count, whether found or not. The names are the settings of the protocol:
    `omz` has one, "mAP"; `wider` has "easy", "medium" and "hard", or what the ground truth calls them.
    """

    scores: Doubles
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
