"""The fast post-processing against the plain one in `benchmarks/postprocessing_peer.py`: the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from detections import table
from head_tensors import KINDS, RULES, crowd, heads_of
from postprocessing_peer import detect_plainly, survivors
from sshconvert.boxes import BLOCK, suppress
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import highest

Heads = Mapping[str, npt.NDArray[Any]]
AROUND_BLOCKS: Final = (0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK + 7)


def assert_same_bits(heads: Heads, size: tuple[int, int], rules: AnchorDetection = RULES) -> None:
    found, expected = rules.decode(heads, size), detect_plainly(heads, size, rules)
    assert len(found) == len(expected)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.boxes.dtype == plain.dtype
        assert table(ours).tobytes() == plain.tobytes()


def random_cases(kind: str, cases: int) -> None:
    for seed in range(cases):
        random: Any = np.random.RandomState(1000 + seed)
        number, height, width = (int(random.randint(*ends)) for ends in ((1, 4), (32, 330), (32, 330)))
        assert_same_bits(heads_of(kind, (number, height, width), seed), (height, width))


@pytest.mark.parametrize("kind", KINDS)
def test_random_heads_give_the_bits_of_the_plain_rules(kind: str) -> None:
    random_cases(kind, 25)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_random_heads_give_the_bits_of_the_plain_rules(kind: str) -> None:
    random_cases(kind, 500)


@pytest.mark.parametrize("kind", ["dense", "ties", "one score"])
def test_at_full_size_more_candidates_than_are_kept_give_the_bits_of_the_plain_rules(kind: str) -> None:
    heads = heads_of(kind, (1, 640, 640), 7)
    above = [np.count_nonzero(heads[head.scores][:, 2:] >= RULES.score_threshold) for head in RULES.heads]
    assert max(above) > (RULES.candidates_per_stride or math.inf)
    assert_same_bits(heads, (640, 640))


def test_a_crowd_gives_the_bits_of_the_plain_rules() -> None:
    assert_same_bits(crowd(1), (640, 640))


@pytest.mark.parametrize("kept", [1, 2, 7, 33, 10_000])
@pytest.mark.parametrize("kind", ["ties", "one score", "on the threshold", "dense"])
def test_of_equal_scores_the_same_are_among_the_candidates(kind: str, kept: int) -> None:
    rules = RULES.model_copy(update={"candidates_per_stride": kept})
    for seed in range(3):
        assert_same_bits(heads_of(kind, (2, 96, 128), seed), (96, 128), rules)


@pytest.mark.parametrize("threshold", [0.05, 0.125, 0.5, 0.875, 1.0])
def test_a_score_on_the_threshold_stays(threshold: float) -> None:
    heads = heads_of("ties", (1, 96, 96), 5)
    rules = RULES.model_copy(update={"score_threshold": threshold})
    assert_same_bits(heads, (96, 96), rules)
    assert min(found.scores[-1] for found in rules.decode(heads, (96, 96))) == max(threshold, 0.125)


def test_another_precision_is_kept() -> None:
    heads = dict(heads_of("dense", (1, 96, 96), 3))
    for head in RULES.heads:
        heads[head.scores] = heads[head.scores].astype(np.float64)
        heads[head.boxes] = heads[head.boxes].astype(np.float64)
    assert_same_bits(heads, (96, 96))


def test_it_does_not_matter_how_the_heads_lie_in_memory() -> None:
    heads = {
        name: np.ascontiguousarray(values.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
        for name, values in heads_of("dense", (2, 96, 160), 4).items()
    }
    assert not any(values.flags.c_contiguous for values in heads.values())
    assert_same_bits(heads, (96, 160))


@pytest.mark.parametrize("extreme", [1e30, -1e30, 88.0, -104.0, 0.0])
def test_boxes_without_size_or_end_give_the_bits_of_the_plain_rules(extreme: float) -> None:
    heads = dict(heads_of("dense", (1, 96, 96), 6))
    for head in RULES.heads:
        deltas = heads[head.boxes] = heads[head.boxes].copy()
        deltas[:, :, ::2] = extreme
    assert_same_bits(heads, (96, 96))


# --- suppression alone -----------------------------------------------------------------------------------------------


def lattice(count: int, random: Any) -> npt.NDArray[Any]:
    """Boxes of few sizes at few places: many overlap by exactly a third, a half, or altogether."""
    corner, size = random.randint(0, 12, (count, 2)) * 5, random.randint(1, 4, (count, 2)) * 10
    return np.concatenate([corner, corner + size - 1], axis=1)


def chain(count: int, _: Any) -> npt.NDArray[Any]:
    """Each overlaps with the next one by a half, and with no other: every second one stays."""
    left = np.arange(count) * 10
    return np.stack([left, left * 0, left + 29, left * 0 + 29], axis=1)


def apart(count: int, _: Any) -> npt.NDArray[Any]:
    left = np.arange(count) * 10
    return np.stack([left, left * 0, left + 9, left * 0 + 9], axis=1)


def one_place(count: int, _: Any) -> npt.NDArray[Any]:
    return np.tile([5, 5, 24, 24], (count, 1))


def without_size(count: int, random: Any) -> npt.NDArray[Any]:
    """Some have no width or height, at the same place as others: their overlap is no number."""
    boxes = lattice(count, random)
    boxes[::3, 2:] = boxes[::3, :2] - 1
    return boxes


def less_than_nothing(count: int, random: Any) -> npt.NDArray[Any]:
    """Rounding gives boxes without size a width or a height that is a little below zero, and so an area."""
    boxes = without_size(count, random).astype(np.float64)
    boxes[::3, 2] -= random.random_sample(len(boxes[::3])) * 1e-4
    boxes[::3, 3] = boxes[::3, 1] + random.random_sample(len(boxes[::3])) - 1 + 1e-3
    boxes[len(boxes) // 2 :] = boxes[len(boxes) // 2 :, [1, 0, 3, 2]]
    return boxes


@pytest.mark.parametrize("inclusive", [True, False], ids=["at least", "more"])
@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("draw", [lattice, chain, apart, one_place, without_size, less_than_nothing])
def test_blocks_leave_what_one_box_after_the_other_leaves(draw: Any, kind: str, inclusive: bool) -> None:
    random: Any = np.random.RandomState(2)
    for count in AROUND_BLOCKS:
        boxes = draw(count, random).astype(kind).reshape(-1, 4)
        for threshold in (0.3, 1 / 3, 0.5, 1.0):
            expected = survivors(boxes, threshold, inclusive=inclusive)
            assert suppress(boxes, threshold, inclusive=inclusive).tolist() == expected, (count, threshold)


def test_a_box_of_an_earlier_block_suppresses_the_first_and_the_last_of_a_later_one() -> None:
    boxes = apart(3 * BLOCK, None).astype(np.float32)
    for victim in (BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 3 * BLOCK - 1):
        boxes[victim] = boxes[0]
    gone = set(range(3 * BLOCK)) - set(suppress(boxes, 0.3).tolist())
    assert gone == {BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 3 * BLOCK - 1}


def test_what_was_suppressed_suppresses_nothing() -> None:
    """Of three in a row only the middle one overlaps with both others, wherever blocks begin and end."""
    for first in range(2 * BLOCK + 2):
        boxes = (apart(first + 3, None) * 10).astype(np.float32)
        boxes[first:, 0] = 1e6 + np.array([0, 10, 20])
        boxes[first:, 2] = boxes[first:, 0] + 19
        assert suppress(boxes, 0.3).tolist() == [*range(first + 1), first + 2]


def test_numbers_are_the_thing_that_comes_back_even_of_no_boxes() -> None:
    for count in (0, 1):
        assert suppress(np.zeros((count, 4), np.float32), 0.3).dtype == np.intp


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_the_highest_are_those_that_a_stable_sort_puts_first(levels: int) -> None:
    random: Any = np.random.RandomState(levels)
    for length in (0, 1, 2, 50):
        scores = (random.randint(0, levels, length) / levels).astype(np.float32)
        for count in range(1, length + 3):
            expected = np.sort(np.argsort(-scores, kind="stable")[:count])
            np.testing.assert_array_equal(highest(scores, count), expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_overlaps_are_computed_and_compared_in_the_precision_of_the_boxes(kind: Any) -> None:
    """Each pair has exactly the overlap of the threshold, to the last bit of its precision: in another, half of them
    have less, or more.
    """
    random: Any = np.random.RandomState(8)
    for _ in range(100):
        first, second = random.random_sample((2, 2)) * 10
        boxes = np.array([[*first, *first + 50], [*second, *second + 50 * random.random_sample(2) + 20]]).astype(kind)
        x1, y1, x2, y2 = boxes.T
        one = kind(1)
        areas = (x2 - x1 + one) * (y2 - y1 + one)
        shared = (min(x2) - max(x1) + one) * (min(y2) - max(y1) + one)
        threshold = float(shared / (areas[0] + areas[1] - shared))
        assert suppress(boxes, threshold).tolist() == [0]
        assert suppress(boxes, threshold, inclusive=False).tolist() == [0, 1]
