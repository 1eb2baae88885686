"""The differences that a task does not accept, and the judgement of compared detections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sshconvert.tasks.comparison import ClassComparison, DetectionComparison, VectorComparison
from sshconvert.tasks.tolerances import Profile

# The checks of embeddings and classes, which reports list by these names.
EMBEDDINGS: Final = "embeddings"
TOP_1: Final = "top-1"
TOP_K: Final = "top-k"
SCORES: Final = "scores"

# The name of a sample, and the comparison of one of its images.
ImageComparison = tuple[str, DetectionComparison]


@dataclass(frozen=True)
class Discrepancy:
    """A difference that a task does not accept. `excess` is the difference over the limit, None without one."""

    check: str
    message: str
    sample: str = ""
    output: str = ""
    excess: float | None = None


def judge_detections(compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Discrepancy]:
    """Require that enough detections match over all samples, that few are excused, and that no pair is far apart."""
    yield from _share(compared, profile)
    yield from _excused(compared, profile)
    yield from _distances(compared, profile)


def _share(compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Discrepancy]:
    differing = sum(image.differing for _, image in compared)
    total = differing + sum(image.matched for _, image in compared)
    if not differing or (total - differing) / total >= profile.matched:
        return
    samples = ", ".join(
        f"{sample}: {len(image.missing)} missing, {len(image.extra)} extra"
        for sample, image in compared
        if image.differing
    )
    allowed = (1 - profile.matched) * total
    yield Discrepancy(
        "detections",
        f"{(total - differing) / total:.2%} of the detections matched, {profile.matched:.1%} required; {samples}",
        excess=differing / allowed if allowed >= 1 else float(differing),
    )


def _excused(compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Discrepancy]:
    """Limit the detections near a threshold, which are no errors up to the number that rounding explains."""
    for sample, image in compared:
        number, allowed = len(image.near_threshold), profile.excused.of(image.expected)
        if number > allowed:
            yield Discrepancy("excused", _too_many_excused(number, allowed), sample, excess=number / allowed)
    number = sum(len(image.near_threshold) for _, image in compared)
    allowed = profile.excused.in_all(image.expected for _, image in compared)
    if number > allowed:
        yield Discrepancy("excused", f"in all, {_too_many_excused(number, allowed)}", excess=number / allowed)


def _too_many_excused(number: int, allowed: float) -> str:
    return f"{number} detections are excused because they lie near a threshold, {allowed:g} allowed"


def _distances(compared: Sequence[ImageComparison], profile: Profile) -> Iterator[Discrepancy]:
    for sample, image in compared:
        if not image.largest_corner <= profile.corner:
            yield Discrepancy(
                "corners",
                f"a matched box is off by {image.largest_corner:.3g} pixels, {profile.corner:g} allowed",
                sample,
                excess=image.largest_corner / profile.corner,
            )
        if not image.score_share <= 1:
            yield Discrepancy(
                "scores",
                f"the score of a matched box is off by more than its tolerance, by up to {image.largest_score:.3g}",
                sample,
                excess=image.score_share,
            )
        if not image.largest_landmark <= profile.corner:
            yield Discrepancy(
                "landmarks",
                f"a matched landmark is off by {image.largest_landmark:.3g} pixels, {profile.corner:g} allowed",
                sample,
                excess=image.largest_landmark / profile.corner,
            )
        if not image.attribute_share <= 1:
            yield Discrepancy(
                "attributes",
                f"a matched attribute is off by more than its tolerance, by up to {image.largest_attribute:.3g}",
                sample,
                excess=image.attribute_share,
            )
    expected, other = (sum(image.score_sums[side] for _, image in compared) for side in (0, 1))
    allowed = profile.score_sum * expected + profile.tensors.atol
    if not abs(other - expected) <= allowed:
        yield Discrepancy(
            "scores",
            f"the scores of the matched boxes add up to {other:.4g} instead of {expected:.4g}, but rounding moves "
            f"them both ways: {allowed:.2g} allowed",
            excess=abs(other - expected) / allowed,
        )


def judge_vectors(compared: Sequence[tuple[str, VectorComparison]], profile: Profile) -> Iterator[Discrepancy]:
    """Require that each embedding is as near to the original's as two unit vectors of `profile.cosine`."""
    allowed = math.sqrt(2 * (1 - profile.cosine))  # the distance of unit vectors at that cosine
    for sample, image in compared:
        if not image.problem and not image.distance <= allowed:
            yield Discrepancy(
                EMBEDDINGS,
                f"an embedding is {image.distance:.3g} from the original's (cosine {image.cosine:.6g}), {allowed:.3g} "
                f"allowed (cosine {profile.cosine:g})",
                sample,
                excess=image.distance / allowed,
            )


def vector_figures(compared: Sequence[VectorComparison]) -> dict[str, str]:
    """Return the least cosine in words, by the name of its check."""
    if not compared or any(image.problem for image in compared):
        return {EMBEDDINGS: "not comparable"}
    distance = max(image.distance for image in compared)
    return {EMBEDDINGS: f"cosine at least {min(image.cosine for image in compared):.7g}, {distance:.2g} apart"}


def judge_classes(compared: Sequence[tuple[str, ClassComparison]], profile: Profile) -> Iterator[Discrepancy]:
    """Require the original's best classes, apart from ties within the tolerance, and its probabilities."""
    images = [(sample, image) for sample, image in compared if not image.problem]
    for name, differing in (
        (TOP_1, [(sample, image) for sample, image in images if 0 in image.differing]),
        (TOP_K, [(sample, image) for sample, image in images if image.differing]),
    ):
        allowed = (1 - profile.matched) * len(images)
        if len(differing) > allowed:
            sample, image = differing[0]
            yield Discrepancy(
                name,
                f"{len(differing)} of {len(images)} images have other best classes, {allowed:g} allowed: "
                f"{_classes(image.found)} instead of {_classes(image.expected)} on {sample}",
                sample,
                excess=len(differing) / allowed if allowed >= 1 else float(len(differing)),
            )
    for sample, image in images:
        if not image.score_share <= 1:
            yield Discrepancy(
                SCORES,
                f"a probability is off by more than its tolerance, by up to {image.largest_score:.3g}",
                sample,
                excess=image.score_share,
            )


def class_figures(compared: Sequence[ClassComparison], top_k: int) -> dict[str, str]:
    """Return the agreement of the best classes in words, by the names of the checks."""
    if not compared or any(image.problem for image in compared):
        return dict.fromkeys((TOP_1, TOP_K, SCORES), "not comparable")
    first = sum(0 not in image.differing for image in compared)
    every = sum(not image.differing for image in compared)
    ties = sum(image.ties > 0 for image in compared)
    return {
        TOP_1: f"{first} of {len(compared)} agree",
        TOP_K: f"{every} of {len(compared)} agree in the best {top_k}" + (f", {ties} with ties" if ties else ""),
        SCORES: f"at most {max(image.largest_score for image in compared):.2g} apart",
    }


def _classes(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))
