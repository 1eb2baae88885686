"""The differences that a task does not accept, and the judgement of compared detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.tolerances import Profile

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
    expected, other = (sum(image.score_sums[side] for _, image in compared) for side in (0, 1))
    allowed = profile.score_sum * expected + profile.tensors.atol
    if not abs(other - expected) <= allowed:
        yield Discrepancy(
            "scores",
            f"the scores of the matched boxes add up to {other:.4g} instead of {expected:.4g}, but rounding moves "
            f"them both ways: {allowed:.2g} allowed",
            excess=abs(other - expected) / allowed,
        )
