"""Detections that rounding may change."""

from __future__ import annotations

import numpy as np
import pytest

from sshconvert.arrays import Array, Flags
from sshconvert.boxes import suppress
from sshconvert.models.registry import load_model
from sshconvert.tasks import certainty
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.certainty import Certainty, Suppression, decide, score_errors
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.results import Detections
from sshconvert.tasks.tolerances import PROFILES, Tolerance

RULE = Suppression(score=0.3, overlap=0.3, overlap_tolerance=0.01)
FP32 = PROFILES["FP32"]
pytestmark = pytest.mark.independent


def candidates(random: np.random.Generator, count: int = 60) -> Detections:
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.hstack([corners, corners + random.uniform(8, 40, (count, 2))])
    scores = random.choice([0.3, 0.5, 0.9, 1.0], count) + random.uniform(-2e-3, 0, count)
    return Detections(boxes, scores)


def kept(boxes: Array, scores: Array) -> set[int]:
    above = np.flatnonzero(scores >= RULE.score)
    order = above[np.argsort(-scores[above], kind="stable")]
    return {int(order[index]) for index in suppress(boxes[order], RULE.overlap)}


def open_candidates(image: Detections, sure: Flags, errors: Array, rule: Suppression) -> Flags:
    certain, excluded = decide(image, sure, errors, rule)
    assert not (certain & excluded).any()
    return np.asarray(~(certain | excluded))


@pytest.mark.parametrize("seed", range(12))
def test_no_rounding_changes_what_is_certain_or_excluded(seed: int) -> None:
    random = np.random.default_rng(seed)
    image = candidates(random)
    errors = np.full(len(image), 1e-3)
    is_open = open_candidates(image, np.ones(len(image), bool), errors, RULE)
    first = kept(image.boxes, image.scores)
    settled = {index for index in range(len(image)) if not is_open[index]}
    assert len(settled) > 5
    for _ in range(60):
        # A shift of 0.01 pixel changes the overlap of boxes of 8 pixels and more by less than the tolerance.
        boxes = image.boxes + random.uniform(-0.01, 0.01, image.boxes.shape)
        other = kept(boxes, image.scores + random.uniform(-1, 1, len(image)) * errors)
        assert (first ^ other) & settled == set()


def test_of_two_equal_scores_rounding_decides_and_a_far_box_stays() -> None:
    boxes = np.array([[0, 0, 20, 20], [1, 0, 21, 20], [50, 50, 70, 70], [51, 50, 71, 70]], np.float64)
    image = Detections(boxes, np.array([0.9, 0.9, 0.9, 0.5]))
    assert [*open_candidates(image, np.ones(4, bool), np.full(4, 1e-6), RULE)] == [True, True, False, False]


def test_a_score_at_the_threshold_and_a_rank_at_the_limit_are_open() -> None:
    boxes = np.array([[0, 0, 20, 20], [50, 50, 70, 70], [90, 0, 99, 9]], np.float64)
    image = Detections(boxes, np.array([0.3, 0.9, 0.9]))
    assert [*open_candidates(image, np.array([True, False, True]), np.full(3, 1e-6), RULE)] == [True, True, False]


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 20, 20], [1, 0, 21, 20]], np.float64)
    image = Detections(boxes, np.array([0.9, 0.9]), class_ids=np.array([0, 1]))
    assert not open_candidates(image, np.ones(2, bool), np.full(2, 1e-6), RULE).any()


def test_too_many_candidates_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certainty, "MOST", 1)
    image = Detections(np.zeros((2, 4)), np.array([0.9, 0.5]))
    assert open_candidates(image, np.ones(2, bool), np.zeros(2), RULE).all()


def test_an_error_of_a_logit_moves_a_saturated_probability_least() -> None:
    half, almost, one = score_errors(np.array([0.5, 0.999, 1.0]), Tolerance(1e-4, 0))
    assert half == pytest.approx(1e-4, rel=0.02)
    assert 1e-6 > almost - one > 0
    assert one == pytest.approx(8 * np.finfo(np.float32).eps)


def test_a_limit_of_candidates_leaves_equal_scores_open() -> None:
    task = load_model("ssh-mxnet").task
    assert isinstance(task, AnchorDetection)
    scores = {head.scores: np.zeros((1, 4, 40, 40), np.float32) for head in task.heads}
    boxes = {head.boxes: np.zeros((1, 8, 40, 40), np.float32) for head in task.heads}
    scores[task.heads[2].scores][:, 2:] = 0.9  # 3200 anchors of one score, of which 1000 are candidates
    ((possible, sure),) = task.possible(scores | boxes, (320, 320), Tolerance(1e-5, 0))
    assert len(possible) == 3200
    assert not sure.any()
    scores[task.heads[2].scores][0, 2, :10, :10] = 0.95
    ((possible, sure),) = task.possible(scores | boxes, (320, 320), Tolerance(1e-5, 0))
    assert sure.sum() == 100


def test_an_unmatched_detection_is_open_only_over_an_open_candidate() -> None:
    box = (0.0, 0.0, 20.0, 20.0, 0.9)
    far = (50.0, 50.0, 70.0, 70.0, 0.9)
    compared = DetectionComparison(missing=(box,), extra=(far,), near_threshold=(box,))
    decided = compared.without(Certainty(3, 2, Detections(np.array([box[:4]]), np.array([0.9]))), 0.9)
    assert decided.open == (box, box)
    assert (decided.missing, decided.extra, decided.near_threshold) == ((), (far,), ())
    assert (decided.certain, decided.excluded, decided.undecided) == (3, 2, 1)


def test_a_detection_near_a_threshold_counts_if_no_rounding_reaches_the_threshold() -> None:
    lost, gained = (0.0, 0.0, 20.0, 20.0, 0.9), (50.0, 50.0, 70.0, 70.0, 0.9)
    compared = DetectionComparison(near_threshold=(lost, gained), found=(gained,))
    decided = compared.without(Certainty(0, 0, Detections(np.zeros((0, 4)), np.zeros(0))), 0.9)
    assert (decided.missing, decided.extra, decided.near_threshold) == ((lost,), (gained,), ())


def test_an_open_detection_is_expected_as_the_other_run_chose_it() -> None:
    """Both candidates have the score 1, and their boxes share more than what makes a pair."""
    kept, tied, far = (np.array([box], np.float64) for box in ([0, 0, 60, 60], [1, 0, 61, 60], [90, 90, 99, 99]))
    points = np.arange(6.0).reshape(3, 1, 2)
    every = Detections(np.concatenate([kept, tied, far]), np.array([1.0, 1.0, 0.9]), landmarks=points)
    expected, other_run = every[np.array([0, 2])], every[np.array([1, 2])]
    certainty = Certainty(1, 0, every[:2])
    assert certainty.chosen(expected, other_run, overlap=0.9, corner=0.1).rows() == other_run.rows()
    assert certainty.chosen(expected, expected, overlap=0.9, corner=0.1).rows() == expected.rows()

    moved = Detections(
        other_run.boxes + np.array([[0.5, 0, 0.5, 0], [0, 0, 0, 0]]), other_run.scores, landmarks=points[:2]
    )
    for actual in (moved, other_run[1:], other_run[:0]):  # no candidate, another detection, nothing
        assert certainty.chosen(expected, actual, overlap=0.9, corner=0.1).rows() == expected.rows()
    nothing = Certainty(3, 0, every[:0])
    assert nothing.chosen(expected, other_run, overlap=0.9, corner=0.1).rows() == expected.rows()


def test_verification_takes_the_choice_between_equal_scores_and_sees_wrong_landmarks() -> None:
    task, profile = load_model("retinaface-mnet25").task, PROFILES["FP32"]
    assert isinstance(task, AnchorDetection)
    size, cells = (320, 320), {32: 10, 16: 20, 8: 40}
    expected: dict[str, Array] = {}
    for head in task.heads:
        side = cells[head.stride]
        expected[head.scores] = np.zeros((1, 4, side, side), np.float32)
        expected[head.boxes] = np.zeros((1, 8, side, side), np.float32)
        assert head.landmarks is not None
        expected[head.landmarks] = np.zeros((1, 20, side, side), np.float32)
    head = task.heads[2]
    expected[head.scores][0, 2, 20, 20:22] = 1  # two neighbours of 32 pixels, half a pixel apart
    expected[head.boxes][0, 0, 20, 21] = -7.5 / 32
    actual = {output: array.copy() for output, array in expected.items()}
    expected[head.scores][0, 2, 20, 21] -= np.float32(6e-8)
    actual[head.scores][0, 2, 20, 20] -= np.float32(6e-8)

    def judged(outputs: dict[str, Array]) -> set[str]:
        original, other = (task.decode(item, size) for item in (expected, outputs))
        certainties = task.certainties(expected, size, profile, lambda _: FP32.tensors)
        chosen = task.as_chosen(original, other, certainties, profile)
        compared = task.compare(chosen, other, profile, lambda _: FP32.tensors)
        decided = task.without_open(compared, certainties, profile)
        return {item.check for item in task.judge([("scene", image) for image in decided], profile)}

    original, other = (task.decode(item, size) for item in (expected, actual))
    (unchosen,) = task.compare(original, other, profile, lambda _: FP32.tensors)
    assert unchosen.largest_corner > profile.corner  # what rounding chose otherwise looks like a moved box
    assert judged(actual) == set()
    actual[str(head.landmarks)][0, 0, 20, 21] += 1
    assert judged(actual) == {"landmarks"}


@pytest.mark.parametrize("name", ["FP32", "FP16", "BF16", "INT8"])
def test_coarse_precisions_leave_too_little_certain(name: str) -> None:
    assert PROFILES[name].certain == (name in ("FP32", "FP16"))


@pytest.mark.parametrize(("name", "excused"), [("FP32", 2), ("BF16", 0)])
def test_verification_leaves_open_what_equal_scores_decide_and_nothing_else(name: str, excused: int) -> None:
    task, profile = load_model("ssh-mxnet").task, PROFILES[name]
    assert isinstance(task, AnchorDetection)
    head = task.heads[2]
    expected = {each.scores: np.zeros((1, 4, 40, 40), np.float32) for each in task.heads}
    expected |= {each.boxes: np.zeros((1, 8, 40, 40), np.float32) for each in task.heads}
    expected[head.scores][0, 2, 5, 5:7] = 0.9  # two neighbours that suppress each other
    expected[head.scores][0, 2, 20, 20] = 0.8
    actual = {output: array.copy() for output, array in expected.items()}
    actual[head.scores][0, 2, 5, 6] += 1e-7
    actual[head.scores][0, 2, 20, 20] = 0  # lost for another reason

    original, other = (task.decode(outputs, (320, 320)) for outputs in (expected, actual))
    compared = task.compare(original, other, profile, lambda _: FP32.tensors)
    assert (len(compared[0].missing), len(compared[0].extra)) == (2, 1)
    certainties = task.certainties(expected, (320, 320), profile, lambda _: FP32.tensors)
    (decided,) = task.without_open(compared, certainties, profile)
    assert len(decided.open) == excused
    assert len(decided.missing) == 2 - excused // 2
