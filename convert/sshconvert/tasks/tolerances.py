"""Tolerance profiles: how much a converted model may differ from the original, by precision, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sshconvert.arrays import Doubles, Floats
from sshconvert.errors import UsageError
from sshconvert.numerals import number

Number = TypeVar("Number", float, Floats, Doubles)


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference of an element: `atol` + `rtol` * |expected|, NumPy's rule."""

    atol: float
    rtol: float

    def at(self, value: Number) -> Number:
        """Return the allowed difference from the expected `value`."""
        return self.atol + self.rtol * abs(value)


@dataclass(frozen=True)
class Excuses:
    """The number of an image's detections that may be excused because they lie near a threshold.

    It is the larger of `few` and a `share` of the original's detections. The values are four times the number measured
    on the worst image. The average over images may be a quarter of that.
    """

    few: int
    share: float

    def of(self, expected: int) -> float:
        """Return the limit for an image with `expected` detections in the original."""
        return max(self.few, self.share * expected)

    def in_all(self, expected: Iterable[int]) -> float:
        """Return the limit for several images: the largest of an image, or a quarter of the sum."""
        limits = [self.of(count) for count in expected]
        return max([*limits, sum(limits) / 4])


@dataclass(frozen=True)
class Profile:
    """The allowed differences of a precision, and their reason.

    Attributes:
        tensors: The tolerance of the outputs.
        overlap: The least intersection over union of two detections that match.
        corner: The largest distance of a corner of matched detections, in pixels.
        suppression: The largest distance from the overlap of the suppression at which a detection may go either way.
        matched: The least share of all detections that both sides have, 0-1.
        excused: The limit for detections near a threshold.
        score_sum: The largest relative difference of the sum of all matched scores.
        cosine: The least cosine of an embedding to the original's.
        layer: The largest difference of a tensor inside the network, relative to the tensor's range.
        left_out: Samples that are not compared, and why.
        certain: Whether detections that its rounding decides are told apart (`sshconvert.tasks.certainty`). A coarser
            precision leaves too few certain.
        undecided: Samples whose detections are compared but not judged, and why.

    """

    name: str
    tensors: Tolerance
    overlap: float
    corner: float
    suppression: float
    matched: float
    excused: Excuses
    score_sum: float
    layer: float
    reason: str
    cosine: float
    certain: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    undecided: Mapping[str, str] = field(default_factory=dict)


_CROWDED: Final = (
    "hundreds of boxes overlap with scores that are the same but for the rounding, which decides who suppresses whom"
)
_UNLIKE: Final = "is like no image that INT8 was calibrated on: most of it is beyond the levels"

PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(
            "FP32",
            Tolerance(5e-5, 1e-5),
            overlap=0.9,
            corner=0.1,
            suppression=1e-3,
            matched=1.0,
            excused=Excuses(2, 0.01),
            score_sum=1e-2,
            layer=1e-4,
            cosine=0.999999,
            certain=True,
            reason="the same numbers added up in another order: at most 1e-5 measured on fitted and on random weights, "
            "times five for processors that order them otherwise; stored halves are off by 4 to 50 times as much",
        ),
        Profile(
            "FP16",
            Tolerance(1e-2, 1e-2),
            overlap=0.9,
            corner=4.0,
            suppression=1e-2,
            matched=0.995,
            excused=Excuses(2, 0.02),
            score_sum=1e-2,
            layer=1e-2,
            cosine=0.9999,
            certain=True,
            reason="each weight is rounded by up to 1/2048 of itself: at most 2.6e-3 measured, times four; one "
            "detection in 200 may go either way in the suppression",
        ),
        Profile(
            "BF16",
            Tolerance(0.08, 0.08),
            overlap=0.75,
            corner=16.0,
            suppression=5e-2,
            matched=0.97,
            excused=Excuses(3, 0.1),
            score_sum=0.05,
            layer=8e-2,
            cosine=0.99,
            reason="weights and every value between layers are rounded by up to 1/256 of themselves, eight times as "
            "coarsely as stored halves: at most 0.034 measured, times two",
            undecided={"noise": _CROWDED},
            left_out={
                "blocks": "excites filters most, in sums of large numbers of both signs, of which each is rounded"
            },
        ),
        Profile(
            "INT8",
            Tolerance(0.25, 0.25),
            overlap=0.5,
            corner=32.0,
            suppression=0.1,
            matched=0.9,
            excused=Excuses(4, 0.4),
            score_sum=0.1,
            layer=0.25,
            cosine=0.9,
            reason="256 levels for each tensor: at most 0.06 measured, times four; single scores move, so that what "
            "counts is the accuracy over a dataset; these limits tell a calibrated model from a broken one",
            left_out={"noise": _UNLIKE, "blocks": _UNLIKE},
        ),
    )
}


# Samples of areas of one colour, and why a coarse precision may leave them out.
PLAIN: Final = ("colours",)
_PLAIN: Final = "has areas of one colour, without content: the rounding of this precision outweighs all else"


def without_plain_images(profile: Profile, coarse: Sequence[str] = ("INT8",)) -> Mapping[str, str]:
    """Return the samples that a profile leaves out, in the `coarse` profiles with those of one colour."""
    return {**profile.left_out, **(dict.fromkeys(PLAIN, _PLAIN) if profile.name in coarse else {})}


@dataclass(frozen=True)
class Overrides:
    """The user's tolerances by output name, and "" for all other outputs."""

    atol: Mapping[str, float] = field(default_factory=dict)
    rtol: Mapping[str, float] = field(default_factory=dict)

    def tolerance(self, profile: Profile, output: str) -> Tolerance:
        """Return the tolerance of an output: the user's for it, the user's for all outputs, or the profile's."""
        return Tolerance(
            self.atol.get(output, self.atol.get("", profile.tensors.atol)),
            self.rtol.get(output, self.rtol.get("", profile.tensors.rtol)),
        )


def parse_limits(option: str, texts: Iterable[str], outputs: Sequence[str]) -> dict[str, float]:
    """Read `1e-5` (for all outputs) and `name:1e-4`. Raises UsageError for an unknown output or a bad number."""
    limits: dict[str, float] = {}
    for text in (item for argument in texts for item in argument.replace(",", " ").split()):
        name, _, limit = text.rpartition(":")
        if name and name not in outputs:
            raise UsageError(f"{option}: {name} is not an output; there are {', '.join(outputs)}")
        try:
            limits[name] = number(limit)
        except ValueError:
            limits[name] = -1.0
        if limits[name] < 0:
            raise UsageError(f"{option}: {text!r} is not a tolerance; write 1e-5, or an output's name:1e-4")
    return limits
