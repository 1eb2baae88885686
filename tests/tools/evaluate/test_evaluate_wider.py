from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from sshconvert.boxes import overlaps
from sshconvert.errors import EvaluationError
from sshconvert.tasks.average_precision import area_under_envelope
from sshtool.evaluate import wider
from sshtool.evaluate.curves import Result
from sshtool.evaluate.matching import corners
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import ImageRecord
from sshtool.evaluate.score import score_predictions
from sshtool.wider_face.ground_truth import ImageTruth, read_ground_truth

# x, y, w, h; and for predictions, the score.
Box: TypeAlias = tuple[float, ...]

# Faces, numbers of those that count (from 0), predictions.
Image: TypeAlias = tuple[Sequence[Box], Sequence[int], Sequence[Box]]

SETTING = "hard"


def truth(faces: Sequence[Box], counted: Sequence[int]) -> ImageTruth:
    boxes = np.array(faces, np.float64).reshape(-1, 4)
    counts = np.zeros(len(boxes), bool)
    counts[list(counted)] = True
    return ImageTruth("0--Drawn/1.jpg", np.zeros((0, 4)), boxes, {SETTING: counts})


def predicted(rows: Sequence[Box]) -> Predictions:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Predictions(table[:, :4], table[:, 4])


def judged(images: Sequence[Image]) -> list[ImageRecord]:
    return [
        ImageRecord(index, f"0--Drawn/{index}.jpg", {"wider": wider.judge(truth(faces, counted), predicted(rows))})
        for index, (faces, counted, rows) in enumerate(images)
    ]


def scored(*images: Image) -> Result:
    return wider.finish(judged(images))


def figure(*images: Image) -> float:
    return scored(*images).curves[0].average_precision


def letters(faces: Sequence[Box], counted: Sequence[int], rows: Sequence[Box]) -> str:
    return wider.judge(truth(faces, counted), predicted(rows)).outcomes[SETTING]


# --- an independent implementation, a box at a time, from the rules and from what MATLAB does with int32 ---


def matlab(value: float) -> int:
    """As int32: halves away from zero. The cases here stay in its range."""
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def plain_overlap(face: Box, box: Box) -> int:
    """`face` is int32, `box` double."""
    a = [matlab(value) for value in face]
    a[2], a[3] = a[0] + a[2], a[1] + a[3]
    b = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    w = matlab(min(a[2], matlab(b[2]))) - max(a[0], matlab(b[0])) + 1
    h = matlab(min(a[3], matlab(b[3]))) - max(a[1], matlab(b[1])) + 1
    if w <= 0 or h <= 0:
        return 0
    area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    union = matlab(area + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)) - w * h
    return matlab(w * h / union) if union else 2**31 - 1


def plain_curve(images: Sequence[Image]) -> tuple[list[tuple[int, int]], float]:
    """For each threshold the proposals and the faces recalled, and the figure."""
    scores = [np.float32(row[4]) for _, _, rows in images for row in rows]
    least, most = min(scores, default=np.float32(0)), max(scores, default=np.float32(0))
    total = sum(len(counted) for _, counted, _ in images)
    sums = [(0, 0)] * 1000
    for faces, counted, rows in images:
        if not faces or not rows or least == most:
            continue
        recalled: set[int] = set()
        history = []
        proposals = 0
        for row in sorted(rows, key=lambda row: -row[4]):
            found = [plain_overlap(face, row) for face in faces]
            best = found.index(max(found))
            taken_out = found[best] >= 0.5 and best not in counted
            if found[best] >= 0.5 and best in counted:
                recalled.add(best)
            proposals += not taken_out
            history.append((float((np.float32(row[4]) - least) / (most - least)), proposals, len(recalled)))
        for t in range(1, 1001):
            reached = [(p, r) for score, p, r in history if score >= 1 - t / 1000]
            if reached:
                sums[t - 1] = (sums[t - 1][0] + reached[-1][0], sums[t - 1][1] + reached[-1][1])
    area, before = 0.0, 0
    for index, (_, recall) in enumerate(sums):
        if recall > before:
            area += (recall - before) / total * max(r / p for p, r in sums[index:])
        before = recall
    return sums, area


def random_images(seed: int, *, whole: bool = False) -> list[Image]:
    """Crowded faces on few pixels, and few scores: overlaps and scores are equal, and halves occur."""
    random: Any = np.random.RandomState(seed)
    steps = [-9, -2, 0, 0, 0, 1, 5] if whole else [-9, -2.5, -0.5, 0, 0, 0, 0.25, 0.5, 5]
    images: list[Image] = []
    for _ in range(random.randint(1, 5)):
        faces: list[Box] = [
            (*random.choice([0, 4, 8, 30], 2), *random.choice([0, 9, 10, 16, -2], 2))
            for _ in range(random.choice([0, 1, 2, 5]))
        ]
        rows: list[Box] = []
        for _ in range(random.choice([0, 1, 3, 8])):
            base = faces[random.randint(len(faces))] if faces and random.rand() < 0.8 else (50, 50, 9, 9)
            score = random.choice([0.1, 0.25, 0.5, 1]) if random.rand() < 0.6 else random.rand()
            rows.append((*(value + random.choice(steps) for value in base), score))
        counted = [number for number in range(len(faces)) if random.rand() < 0.6]
        images.append((faces, counted, rows))
    return images


@pytest.mark.parametrize("seed", range(300))
def test_the_curve_is_that_of_a_plain_second_implementation(seed: int) -> None:
    images = random_images(seed)
    curve = scored(*images).curves[0]
    sums, area = plain_curve(images)
    expected = [recall / proposals if proposals else math.nan for proposals, recall in sums]
    np.testing.assert_array_equal(curve.precision, expected)
    np.testing.assert_array_equal(curve.recall * max(curve.faces, 1), [recall for _, recall in sums])
    assert curve.average_precision == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_on_whole_pixels_being_on_a_face_is_what_the_rules_say(seed: int) -> None:
    """Without MATLAB's roundings: an overlap of at least 0.5."""
    for faces, _, rows in random_images(seed, whole=True):
        boxes, others = corners(predicted(rows).boxes), corners(truth(faces, []).boxes)
        solid = (others[:, 2:] >= others[:, :2]).all(axis=1)
        np.testing.assert_array_equal(
            wider.integer_overlaps(boxes, others)[:, solid] >= 0.5, overlaps(boxes, others)[:, solid] >= 0.5
        )


def test_the_random_cases_contain_what_they_should() -> None:
    found = "".join(letters(*image) for seed in range(300) for image in random_images(seed))
    assert min(found.count(letter) for letter in "TDFN") > 50


# --- known answers ---

FACE = (100.0, 100.0, 80.0, 80.0)
OTHER = (400.0, 100.0, 80.0, 80.0)
THIRD = (700.0, 100.0, 80.0, 80.0)
BESIDE = (100.0, 600.0, 80.0, 80.0)  # where no face is

# Sets the least score of the data set, and has no part in it: on an ignored face.
LEAST: Image = ([FACE], [], [(*FACE, 0.0)])


def test_perfect_predictions_give_one() -> None:
    assert figure(([FACE, OTHER], [0, 1], [(*FACE, 0.9), (*OTHER, 0.2)]), ([FACE], [0], [(*FACE, 0.5)])) == 1.0


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # One of two faces is found: precision 1 up to recall 1/2.
        pytest.param([([FACE, OTHER], [0, 1], [(*FACE, 0.9)])], 1 / 2, id="missing"),
        pytest.param([([FACE], [0], [])], 0.0, id="no predictions"),
        # A shift of 16 px: 65 / 97 = 0.67 counts. One of 28 px: 53 / 109 = 0.486 does not.
        pytest.param([([FACE], [0], [(116, 100, 80, 80, 0.9)])], 1.0, id="shifted a little"),
        pytest.param([([FACE], [0], [(128, 100, 80, 80, 0.9)])], 0.0, id="shifted too far"),
        # Order: recalled, second on it, recalled. Recall 1/2 at precision 1, recall 1 at 2/3.
        pytest.param(
            [([FACE, OTHER], [0, 1], [(*FACE, 0.9), (*FACE, 0.8), (*OTHER, 0.7)])],
            1 / 2 + 1 / 2 * 2 / 3,
            id="duplicated",
        ),
        # The false one comes first: precision 1/2.
        pytest.param([([FACE], [0], [(*BESIDE, 0.9), (*FACE, 0.5)])], 1 / 2, id="low-ranked"),
        pytest.param([([FACE], [0], [(*FACE, 0.9), (*BESIDE, 0.5)])], 1.0, id="false one last"),
        # Precisions 0, 1/2, 2/3, 3/4: the envelope is 3/4 everywhere.
        pytest.param(
            [([FACE, OTHER, THIRD], [0, 1, 2], [(*BESIDE, 0.9), (*FACE, 0.8), (*OTHER, 0.7), (*THIRD, 0.6)])],
            3 / 4,
            id="envelope",
        ),
        # On an ignored face: taken out, once and again.
        pytest.param([([FACE, OTHER], [1], [(*FACE, 0.9), (*FACE, 0.8), (*OTHER, 0.5)])], 1.0, id="ignored"),
        # An image without face boxes contributes nothing; a false box in an image whose faces are all ignored does.
        pytest.param([([], [], [(*BESIDE, 0.9)]), ([FACE], [0], [(*FACE, 0.5)])], 1.0, id="image without faces"),
        pytest.param([([FACE], [], [(*BESIDE, 0.9)]), ([FACE], [0], [(*FACE, 0.5)])], 1 / 2, id="image all ignored"),
        # Faces of an image without predictions count all the same.
        pytest.param([([FACE], [0], []), ([FACE], [0], [(*FACE, 0.5)])], 1 / 2, id="image without predictions"),
        # Nothing counts: not defined, 0.
        pytest.param([([FACE], [], [(*FACE, 0.9)])], 0.0, id="only ignored"),
    ],
)
def test_a_case_worked_out_by_hand(images: Sequence[Image], expected: float) -> None:
    assert figure(*images, LEAST) == pytest.approx(expected, abs=1e-15)


def test_an_overlap_of_exactly_one_half_counts() -> None:
    face = (0, 0, 99, 99)  # 100 x 100 with its corner pixels
    assert letters([face], [0], [(0, 0, 99, 49, 0.9)]) == "T"
    assert letters([face], [0], [(0, 0, 99, 48, 0.9)]) == "F"


def test_areas_include_the_corner_pixels() -> None:
    # 66 x 66 and 66 x 33 with +1: 1/2. Without it: 65 * 32 / (65 * 65) = 0.492.
    assert letters([(0, 0, 65, 65)], [0], [(0, 0, 65, 32, 0.9)]) == "T"


def test_a_prediction_is_on_the_first_face_that_it_overlaps_by_half() -> None:
    """Not on the best one: as integers, all overlaps from 0.5 on are 1."""
    near, nearer = (0, 0, 99, 99), (20, 0, 99, 99)
    assert letters([near, nearer], [0, 1], [(20, 0, 99, 99, 0.9), (0, 0, 99, 99, 0.8)]) == "TD"
    assert letters([nearer, near], [0, 1], [(20, 0, 99, 99, 0.9), (0, 0, 99, 99, 0.8)]) == "TD"
    assert letters([near, nearer], [1], [(20, 0, 99, 99, 0.9)]) == "N"


def test_an_ignored_face_does_not_hide_one_that_it_does_not_cover() -> None:
    assert letters([FACE, OTHER], [1], [(*OTHER, 0.9), (*FACE, 0.8), (*OTHER, 0.7)]) == "TND"


@pytest.mark.parametrize(
    ("box", "overlap"),
    [
        # The face is 10 x 10. Corners of the intersection are rounded (halves away from zero).
        pytest.param((0, 0, 9, 3.5), 1, id="3.5 becomes 4: 50 of 100 + 45 - 50"),
        pytest.param((0, 0, 9, 3.4), 0, id="3.4 becomes 3: 40 of 100 + 44 - 40"),
        # The sum of the areas is rounded too.
        pytest.param((0, 0, 9, 4.04), 1, id="150.4 becomes 150: 50 of 100"),
        pytest.param((0, 0, 9, 4.06), 0, id="150.6 becomes 151: 50 of 101"),
    ],
)
def test_overlaps_are_computed_in_integers(box: Box, overlap: int) -> None:
    found = wider.integer_overlaps(corners(np.array([box], np.float64)), np.array([[0, 0, 9, 9]], np.float64))
    assert found.tolist() == [[overlap]]
    assert plain_overlap((0, 0, 9, 9), box) == overlap


def test_integers_do_not_leave_their_range() -> None:
    face, box = np.array([[0, 0, 9e5, 9e5]]), np.array([[-1e38, -1e38, 1e38, 1e38]])
    assert wider.integer_overlaps(box, face).tolist() == [
        [2**31 - 1]
    ]  # both areas and the intersection are the largest
    assert wider._int32(np.array([0.49999999999999994, -0.5, 2.5, 1e300, -1e300])).tolist() == [
        0, -1, 3, 2**31 - 1, -(2**31),
    ]  # fmt: skip


def test_a_union_of_nothing_is_divided_as_integers_are() -> None:
    # A face of 1 x 1, a prediction of 0.5 x 0.5: the union is round(1.25) - 1 = 0, and 1 / 0 the largest integer.
    assert letters([(5, 5, 0, 0)], [0], [(5.25, 5.25, -0.5, -0.5, 0.9)]) == "T"


@pytest.mark.parametrize("box", [(100, 100, -5, 80), (100, 100, -500, -500), (300, 300, 80, 80)], ids=str)
def test_a_prediction_without_common_pixels_is_on_no_face(box: Box) -> None:
    assert letters([FACE], [0], [(*box, 0.9)]) == "F"


def test_the_better_score_recalls_the_face_wherever_it_stands() -> None:
    assert letters([FACE], [0], [(*FACE, 0.2), (*FACE, 0.9)]) == "DT"
    assert letters([FACE], [0], [(*FACE, 0.9), (*FACE, 0.9)]) == "TD"


# --- scores and thresholds ---


def test_scores_are_normalised_over_the_data_set() -> None:
    """Scores may have any range: -3 becomes 0, 5 becomes 1, and 1 becomes 0.5, which is threshold 500."""
    curve = scored(([FACE, OTHER], [0, 1], [(*FACE, 5), (*OTHER, 1)]), ([FACE], [0], [(*BESIDE, -3)])).curves[0]
    recalled = np.rint(curve.recall * 3).tolist()
    assert recalled[:499] == [1] * 499
    assert recalled[499:] == [2] * 501
    assert curve.precision[[0, 499, 998, 999]].tolist() == [1, 1, 1, 2 / 3]
    assert curve.scores[[0, 499, 999]].tolist() == [0.999, 0.5, 0]


def test_scores_of_images_that_contribute_nothing_are_normalised_too() -> None:
    images: list[Image] = [([FACE], [0], [(*FACE, 0.5), (*BESIDE, 0.0)]), ([], [], [(*BESIDE, 1.0)])]
    curve = scored(*images).curves[0]
    assert np.flatnonzero(curve.recall)[0] == 499


def test_a_threshold_is_reached_by_an_equal_score() -> None:
    curve = scored(([FACE], [0], [(*FACE, 0.75), (*BESIDE, 0.0), (*BESIDE, 1.0)])).curves[0]
    assert np.flatnonzero(curve.recall)[0] == 249  # 1 - 250 / 1000


@pytest.mark.parametrize(
    ("score", "point"),
    [
        pytest.param(0.104, 994, id="0.0050000013, not 0.004999999999999987"),
        pytest.param(0.152, 935, id="0.0649999976, not 0.06499999999999999"),
    ],
)
def test_scores_are_normalised_in_single_precision(score: float, point: int) -> None:
    """From 0.1 to 0.9: in double precision the first would reach its threshold one later, the second one earlier."""
    curve = scored(([FACE], [0], [(*FACE, score), (*BESIDE, 0.1), (*BESIDE, 0.9)])).curves[0]
    assert np.flatnonzero(curve.recall)[0] == point


def test_points_with_nothing_yet_have_no_precision_and_no_area() -> None:
    images: list[Image] = [([OTHER], [], [(*OTHER, 1.0)]), ([FACE], [0], [(*FACE, 0.5)]), LEAST]
    curve = scored(*images).curves[0]
    assert np.isnan(curve.precision[:499]).all()
    assert curve.precision[499] == 1
    assert curve.average_precision == 1.0


@pytest.mark.parametrize("score", [0.0, 0.9, -2.0])
def test_equal_scores_cannot_be_normalised_and_the_result_says_so(score: float) -> None:
    result = scored(([FACE], [0], [(*FACE, score)]), ([FACE], [0], [(*FACE, score)]))
    assert result.curves[0].average_precision == 0
    assert result.notes == (wider.EQUAL_SCORES,)
    assert not scored(([FACE], [0], [])).notes


def test_the_area_under_an_envelope() -> None:
    assert area_under_envelope(np.array([1, 0.5, 2 / 3]), np.array([0.5, 0.5, 1])) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert area_under_envelope(np.array([math.nan, 0.25, 0.5]), np.array([0, 0.25, 0.5])) == 0.25
    assert area_under_envelope(np.array([]), np.array([])) == 0


# --- settings, faults, records ---


def test_each_setting_has_its_own_faces() -> None:
    image = replace(truth([FACE, OTHER], []), counted={"easy": np.array([True, False]), "hard": np.array([True, True])})
    judgement = wider.judge(image, predicted([(*OTHER, 0.9), (*FACE, 0.8), (*BESIDE, 0.1)]))
    assert judgement.outcomes == {"easy": "NTF", "hard": "TTF"}
    assert judgement.faces == {"easy": 1, "hard": 2}
    result = wider.finish([ImageRecord(0, "a/b.jpg", {"wider": judgement})])
    assert [curve.setting for curve in result.curves] == ["easy", "hard"]
    assert [(fault.misses, fault.false_boxes) for fault in result.faults] == [(0, 0), (0, 0)]


def test_faults_are_those_of_boxes_that_would_be_shown() -> None:
    rows = [(*FACE, 0.9), (*FACE, 0.5), (*BESIDE, 0.6), (*BESIDE, 0.4), (*OTHER, 0.4)]
    fault = scored(([FACE, OTHER], [0, 1], rows)).faults[0]
    assert (fault.image, fault.faces, fault.misses, fault.false_boxes) == ("0--Drawn/0.jpg", 2, 1, 2)


def test_images_of_different_settings_are_refused() -> None:
    first, second = judged([LEAST, LEAST])
    judgement = replace(second.protocols["wider"], faces={"easy": 0}, outcomes={"easy": "N"})
    with pytest.raises(EvaluationError, match=r"Drawn/1\.jpg.*Drawn/0\.jpg"):
        wider.finish([first, replace(second, protocols={"wider": judgement})])


@pytest.mark.parametrize("seed", range(20))
def test_records_in_any_order_give_the_same_result_to_the_bit(seed: int) -> None:
    records = judged([image for part in range(4) for image in random_images(4 * seed + part)])
    shuffled = [records[index] for index in np.random.RandomState(seed).permutation(len(records))]
    merged = wider.finish(shuffled)
    single = wider.finish(records)
    assert repr(merged) == repr(single)
    np.testing.assert_array_equal(merged.curves[0].precision, single.curves[0].precision)


def test_the_figures_are_those_of_the_official_tools(shared_data: Path, official_predictions: Path) -> None:
    folder = shared_data / "wider"
    official = json.loads((folder / "official_figures.json").read_text(encoding="utf-8"))
    result = score_predictions(read_ground_truth(folder), official_predictions, "wider")
    found = {curve.setting: curve.average_precision for curve in result.curves}
    assert found == pytest.approx(official["wider_official_tools_under_octave"], abs=1e-9)
    assert [curve.faces for curve in result.curves] == [7211, 13319, 31958]
    assert len(result.failures) == 30
    assert not result.notes
