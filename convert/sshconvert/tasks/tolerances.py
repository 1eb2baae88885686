"""Tolerance profiles: how much a converted model may differ from the original, by precision, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

import numpy as np

from sshconvert.arrays import Array, Doubles, Floats
from sshconvert.errors import UsageError
from sshconvert.numerals import number

Number = TypeVar("Number", float, Floats, Doubles)


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference of an element: `atol` + `rtol` * |expected|, NumPy's rule.

    If it `saturates`, the elements are probabilities. An error d of a logit is an error d * p * (1 - p) of its
    probability p, so that `atol` applies at p = 1/2 and shrinks to `floor` at 0 and 1. `mean` is the allowed mean
    difference of a tensor, which shows a fault that is small everywhere; None for any.
    """

    atol: float
    rtol: float = 0.0
    floor: float = 0.0
    saturates: bool = False
    mean: float | None = None

    def at(self, value: Number) -> Number:
        """Return the allowed difference from the expected `value`."""
        if not self.saturates:
            return self.atol + self.rtol * abs(value)
        shrunk = self.atol * saturation(np.asarray(value))
        return cast(Number, np.maximum(shrunk, self.floor) + self.rtol * abs(value))


def saturation(probability: Array) -> Array:
    """Return 4 * p * (1 - p): how much of a logit's error reaches a probability p, 1 at the most."""
    p = probability.astype(np.float64)
    return np.asarray(4 * p * np.clip(1 - p, 0, 1))


@dataclass(frozen=True)
class Yardstick:
    """How far the original in float32 is from the exact result: the measure of an artifact's distance.

    `source` computed the original: MXNet, or without it the definitions of the operators in float32. `distances` are
    the largest differences by output, relative to the output's magnitude, and `means` the largest mean differences. The
    distance of a probability is that of its logit (`Tolerance`). `scales` are usual magnitudes by output: an output
    that almost vanishes on a sample is measured by them. `unstable` names the samples, by output, on which rounding
    turns an output into another: there, the original itself is farther away than `MOST_DISTANT`, as behind a sort of
    equal scores. On such a sample the output proves nothing.
    """

    source: str
    distances: Mapping[str, float]
    means: Mapping[str, float]
    scales: Mapping[str, float]
    unstable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tolerance(self, output: str, expected: Array, *, saturates: bool, exact: bool) -> Tolerance:
        """Return `FACTOR` times the distance of the original, and `MEAN_FACTOR` times its mean.

        The factors are one more if `expected` is itself the original's.
        """
        scale, more = max(magnitude(expected), self.scales.get(output, 0.0)), 0 if exact else 1
        mean = max(self.means.get(output, 0.0), UNIT / 4)
        return Tolerance(
            (FACTOR + more) * self.unit(output) * scale,
            floor=scale * FLOOR,
            saturates=saturates,
            mean=None if saturates or expected.size < FEW else (MEAN_FACTOR + more) * mean * scale,
        )

    def times(self, output: str, expected: Array, actual: Array, *, saturates: bool) -> float:
        """Return the largest difference from the exact result in units of the original's."""
        scale = max(magnitude(expected), self.scales.get(output, 0.0)) or 1.0
        return float(errors(expected, actual, saturates=saturates).max(initial=0)) / (scale * self.unit(output))

    def unit(self, output: str) -> float:
        """Return the distance of an output, at least `UNIT` and at most `MOST_DISTANT`."""
        return min(max(self.distances.get(output, 0.0), UNIT), MOST_DISTANT)


def errors(expected: Array, actual: Array, *, saturates: bool) -> Doubles:
    """Return the differences from the exact result as `Yardstick` counts them: of probabilities, those of the logits.

    A probability's difference below the floor says nothing about its logit, and counts as 0.
    """
    distances: Doubles = np.abs(expected.astype(np.float64) - actual)
    if not saturates:
        return distances
    least = FLOOR * magnitude(expected)
    return np.where(distances > least, distances / np.maximum(saturation(expected), least), 0)


def magnitude(array: Array) -> float:
    """Return the largest absolute value of a tensor."""
    return float(np.abs(array).max(initial=0))


# An artifact may be this many times as far from the exact result as the original in float32, and on average this many
# times. Of 23 networks with trained or seeded weights, healthy artifacts reach 5.0 and 3.7, most less than 2.
FACTOR: Final = 8.0
MEAN_FACTOR: Final = 6.0
FEW: Final = 64  # elements have no stable mean
# The least distance that is measured: eight units in the last place of the largest magnitude. Of a probability near 0
# or 1, differences up to two units are a softmax's own.
UNIT: Final = 8 * 2.0**-23
FLOOR: Final = 2 * 2.0**-23
# At a larger distance, the original and the exact result contradict each other.
MOST_DISTANT: Final = 1e-2


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
        exact: Whether the yardstick replaces `tensors` where there is an exact result.
        strict: Whether a detection near a threshold is no excuse, because what rounding decides is told apart.
        rounds: Whether weights are rounded in the file: the exact result is then that of the same rounded weights.
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
    exact: bool = False
    strict: bool = False
    rounds: bool = False
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
            exact=True,
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
            rounds=True,
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
            rounds=True,
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
