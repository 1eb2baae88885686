from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from detections import SSH
from sshconvert.boxes import suppress
from sshconvert.errors import DetectionError, EvaluationError
from sshconvert.models.protocols import OmzRules
from sshtool.evaluate import omz
from sshtool.evaluate.curves import Result
from sshtool.evaluate.predictions import Predictions, from_corners
from sshtool.evaluate.records import ImageRecord
from sshtool.evaluate.score import score_predictions
from sshtool.wider_face.ground_truth import ImageTruth, read_ground_truth

RULES = SSH

# x, y, w, h; and for predictions, the score.
Box: TypeAlias = tuple[float, ...]
Images: TypeAlias = Sequence[tuple[Sequence[Box], Sequence[Box]]]


def truth(faces: Sequence[Box], name: str = "0--Drawn/1.jpg") -> ImageTruth:
    boxes = np.array(faces, np.float64).reshape(-1, 4)
    return ImageTruth(name, boxes, np.zeros((0, 4)), {})


def predicted(rows: Sequence[Box]) -> Predictions:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Predictions(table[:, :4], table[:, 4])


def judged(images: Images) -> list[ImageRecord]:
    return [
        ImageRecord(index, f"0--Drawn/{index}.jpg", {"omz": omz.judge(truth(faces), predicted(rows))})
        for index, (faces, rows) in enumerate(images)
    ]


def scored(*images: tuple[Sequence[Box], Sequence[Box]]) -> Result:
    return omz.finish(judged(images))


def figure(*images: tuple[Sequence[Box], Sequence[Box]]) -> float:
    return scored(*images).curves[0].average_precision


def letters(faces: Sequence[Box], rows: Sequence[Box]) -> str:
    return omz.judge(truth(faces), predicted(rows)).outcomes["mAP"]


# --- an independent implementation, a box at a time, from the rules ---


def plain_figure(images: Images) -> tuple[float, int]:
    """The figure and the number of faces that count."""
    annotations = [[plain_annotation(face) for face in faces] for faces, _ in images]
    counted = sum(not difficult for boxes in annotations for _, difficult in boxes)
    flat = [(row, number) for number, (_, rows) in enumerate(images) for row in rows]
    outcomes = [""] * len(flat)
    used = set()
    for at in sorted(range(len(flat)), key=lambda at: -flat[at][0][4]):
        row, number = flat[at]
        match = plain_match(row, annotations[number])
        if match is None or (number, match) in used:
            outcomes[at] = "wrong"
        else:
            outcomes[at] = "neither" if annotations[number][match][1] else "hit"
            used.add((number, match))
    # Objects are sorted by the quicksort that the accuracy checker had.
    order = np.argsort(np.array([-row[4] for row, _ in flat], object), kind="quicksort").tolist()
    hits, points = 0, []
    for seen, at in enumerate(order, 1):
        hits += outcomes[at] == "hit"
        out = sum(outcomes[other] == "neither" for other in order[:seen])
        points.append((hits, hits / (seen - out) if seen > out else 0.0))
    area = 0.0
    for index, (hits, _) in enumerate(points):
        gained = hits - (points[index - 1][0] if index else 0)
        area += gained / max(counted, 1) * max(precision for _, precision in points[index:])
    return area, counted


def plain_match(row: Box, annotations: list[tuple[list[int], bool]]) -> int | None:
    box = [round(value) for value in (row[0], row[1], row[0] + row[2], row[1] + row[3])]
    for wanted in (False, True):
        overlaps = [
            (plain_iou(box, face), -at) for at, (face, difficult) in enumerate(annotations) if difficult == wanted
        ]
        if overlaps and max(overlaps)[0] >= 0.5:
            return -max(overlaps)[1]
    return None


def plain_annotation(face: Box) -> tuple[list[int], bool]:
    x, y, w, h = face
    box = [min(max(round(value), 0), 1024) for value in (x, y, x + w, y + h)]
    height = box[3] - box[1]
    return box, height < 64 or height > 1024 or box[2] <= box[0]


def plain_iou(one: Sequence[int], other: Sequence[int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def random_images(seed: int) -> list[tuple[list[Box], list[Box]]]:
    """Few pixels and scores, so that overlaps and scores are equal, halves occur, and faces are ignored."""
    random: Any = np.random.RandomState(seed)
    images = []
    for _ in range(random.randint(1, 6)):
        faces = [random_face(random) for _ in range(random.choice([0, 1, 2, 4]))]
        rows: list[Box] = []
        for _ in range(random.choice([0, 1, 3, 8])):
            base = faces[random.randint(len(faces))] if faces and random.rand() < 0.8 else random_face(random)
            moved = [value + random.choice([-20, -4, -1, -0.5, 0, 0, 0, 0.5, 3, 30]) for value in base]
            rows.append(
                (*moved, random.choice([0.1, 0.25, 0.5, 0.75, 0.999]) if random.rand() < 0.6 else random.rand())
            )
            if random.rand() < 0.2:
                rows.append(rows[-1])
        images.append((faces, rows))
    return images


def random_face(random: Any) -> Box:
    x, y = random.choice([0, 0, 30, 980.5], 2)
    return (x, y, random.choice([0, 40, 64, 80.5, -3]), random.choice([30, 63, 64, 65, 100.5, 0]))


@pytest.mark.parametrize("seed", range(300))
def test_the_figure_is_that_of_a_plain_second_implementation(seed: int) -> None:
    images = random_images(seed)
    curve = scored(*images).curves[0]
    expected, faces = plain_figure(images)
    assert curve.faces == faces
    assert curve.average_precision == pytest.approx(expected, abs=1e-12)


def test_the_random_cases_contain_what_they_should() -> None:
    found = "".join(letters(faces, rows) for seed in range(300) for faces, rows in random_images(seed))
    assert min(found.count(letter) for letter in "TDFN") > 50


# --- known answers ---

FACE = (100.0, 100.0, 80.0, 80.0)
OTHER = (400.0, 100.0, 80.0, 80.0)
SMALL = (700.0, 100.0, 60.0, 63.0)  # difficult: lower than 64
BESIDE = (100.0, 600.0, 80.0, 80.0)  # where no face is


def test_perfect_predictions_give_one() -> None:
    assert figure(([FACE, OTHER], [(*FACE, 0.9), (*OTHER, 0.2)]), ([FACE], [(*FACE, 0.5)])) == 1.0


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # One of two faces is found: precision 1 up to recall 1/2.
        pytest.param([([FACE, OTHER], [(*FACE, 0.9)])], 1 / 2, id="missing"),
        # Nothing is found.
        pytest.param([([FACE], [])], 0.0, id="no predictions"),
        # 8 of 10 columns overlap after a shift of 16 px: 65 * 81 / (2 * 81 * 81 - 65 * 81) = 65 / 97 = 0.67 counts.
        pytest.param([([FACE], [(116, 100, 80, 80, 0.9)])], 1.0, id="shifted a little"),
        # Shift 28: 53 / 109 = 0.486 does not.
        pytest.param([([FACE], [(128, 100, 80, 80, 0.9)])], 0.0, id="shifted too far"),
        # Order T D T: recall 1/2 at precision 1, recall 1 at 2/3.
        pytest.param(
            [([FACE, OTHER], [(*FACE, 0.9), (*FACE, 0.8), (*OTHER, 0.7)])], 1 / 2 + 1 / 2 * 2 / 3, id="duplicated"
        ),
        # Order F T: precision 1/2.
        pytest.param([([FACE], [(*FACE, 0.1), (*BESIDE, 0.9)])], 1 / 2, id="low-ranked"),
        # Order T F: what comes after the last hit costs nothing.
        pytest.param([([FACE], [(*FACE, 0.9), (*BESIDE, 0.1)])], 1.0, id="false one last"),
        # Order F T T T: precisions 0, 1/2, 2/3, 3/4; the envelope is 3/4 everywhere.
        pytest.param(
            [
                (
                    [FACE, OTHER, (400, 400, 80, 80)],
                    [(*BESIDE, 0.9), (*FACE, 0.8), (*OTHER, 0.7), (400, 400, 80, 80, 0.6)],
                )
            ],
            3 / 4,
            id="envelope",
        ),
        # The face of 63 px is no ground truth, and the prediction on it neither right nor wrong: order N T.
        pytest.param([([FACE, SMALL], [(*SMALL, 0.9), (*FACE, 0.5)])], 1.0, id="difficult"),
        # The second one on it is false: order N F T.
        pytest.param([([FACE, SMALL], [(*SMALL, 0.9), (*SMALL, 0.8), (*FACE, 0.5)])], 1 / 2, id="difficult twice"),
        # An image without annotations: a false positive that comes before the hit in another image.
        pytest.param([([], [(*FACE, 0.9)]), ([FACE], [(*FACE, 0.5)])], 1 / 2, id="image without faces"),
        # The same, but the false one has the lower score: the order is that of the whole data set.
        pytest.param([([], [(*FACE, 0.1)]), ([FACE], [(*FACE, 0.5)])], 1.0, id="ordered over the data set"),
        # No face counts: not defined, 0.
        pytest.param([([SMALL], [(*SMALL, 0.9)])], 0.0, id="only difficult"),
        pytest.param([([], [])], 0.0, id="nothing at all"),
    ],
)
def test_a_case_worked_out_by_hand(images: Images, expected: float) -> None:
    assert figure(*images) == pytest.approx(expected, abs=1e-15)


def test_a_figure_that_is_not_defined_is_noted() -> None:
    assert scored(([SMALL], [])).notes == ("No face counts in mAP: the figure is not defined.",)
    assert not scored(([FACE], [])).notes


def test_an_overlap_of_exactly_one_half_is_a_hit() -> None:
    face = (0, 0, 99, 99)  # 100 x 100 with its corner pixels
    assert letters([face], [(0, 0, 99, 49, 0.9)]) == "T"  # 100 x 50 inside it: 1/2
    assert letters([face], [(0, 0, 99, 48, 0.9)]) == "F"  # 100 x 49


def test_areas_include_the_corner_pixels() -> None:
    # 66 x 66 and 66 x 33 with +1: 1/2. Without it: 65 * 32 / (65 * 65) = 0.492.
    assert letters([(0, 0, 65, 65)], [(0, 0, 65, 32, 0.9)]) == "T"


@pytest.mark.parametrize(
    ("top", "height", "counts"),
    [
        # y1 and y2 are rounded before the height is measured; halves go to the even number.
        pytest.param(0.0, 63.5, True, id="63.5 becomes 64"),
        pytest.param(0.0, 62.5, False, id="62.5 becomes 62"),
        pytest.param(0.5, 64.0, True, id="0.5 and 64.5 become 0 and 64"),
        pytest.param(1.5, 63.0, False, id="1.5 and 64.5 become 2 and 64"),
        pytest.param(0.0, 64.0, True, id="64"),
        pytest.param(0.0, 63.0, False, id="63"),
        pytest.param(0.0, 2000.0, True, id="2000 is clipped to 1024"),
        pytest.param(970.0, 100.0, False, id="54 are left of it after clipping"),
        pytest.param(-40.0, 100.0, False, id="60 are left of it below 0"),
        pytest.param(1500.0, 100.0, False, id="nothing is left of it"),
    ],
)
def test_which_annotations_count(top: float, height: float, counts: bool) -> None:
    assert omz.judge(truth([(10, top, 70, height)]), predicted([])).faces == {"mAP": int(counts)}


@pytest.mark.parametrize("width", [0.0, -2.0, 0.5], ids=str)
def test_an_annotation_without_width_is_difficult(width: float) -> None:
    assert omz.judge(truth([(10, 10, width, 100)]), predicted([])).faces == {"mAP": 0}


def test_an_annotation_beyond_1024_pixels_has_no_width() -> None:
    assert omz.judge(truth([(1100, 10, 90, 100)]), predicted([])).faces == {"mAP": 0}


def test_predictions_are_rounded_too() -> None:
    face = (0, 0, 99, 99)
    assert letters([face], [(0, 0, 99, 48.5, 0.9)]) == "F"  # 48.5 becomes 48, 49 rows
    assert letters([face], [(0, 0, 99, 48.51, 0.9)]) == "T"  # 49, 50 rows
    assert letters([face], [(0.5, 0, 98.5, 49, 0.9)]) == "T"  # 0.5 becomes 0; were it 1, 99 * 50 / 10000 would be less


def test_predictions_are_not_clipped() -> None:
    # Annotation 924-1024; the prediction reaches far beyond: 101 of 301 columns. Clipped it would be perfect.
    assert letters([(924, 0, 400, 100)], [(924, 0, 300, 100, 0.9)]) == "F"
    assert letters([(924, 0, 400, 100)], [(924, 0, 100, 100, 0.9)]) == "T"


def test_a_difficult_annotation_counts_only_where_no_other_will_do() -> None:
    # The difficult one (63 rows) fits perfectly, the other by 64 / 81: the other one is taken.
    tall, low = (0, 0, 80, 80), (0, 0, 80, 63)
    assert letters([tall, low], [(*low, 0.9)]) == "T"
    assert letters([low, tall], [(*low, 0.9)]) == "T"
    # And the second one is false, although the difficult one is unused.
    assert letters([tall, low], [(*low, 0.9), (*low, 0.8)]) == "TD"


def test_the_best_of_several_annotations_counts() -> None:
    near, nearer = (0, 0, 99, 99), (10, 0, 99, 99)
    assert letters([near, nearer], [(9, 0, 99, 99, 0.9), (10, 0, 99, 99, 0.8), (0, 0, 99, 99, 0.7)]) == "TDT"


def test_of_equal_overlaps_the_first_annotation_counts() -> None:
    # 10 px between them, the prediction in the middle; the second prediction is on the first annotation.
    left, right = (0, 0, 99, 99), (10, 0, 99, 99)
    assert letters([left, right], [(5, 0, 99, 99, 0.9), (*left, 0.8)]) == "TD"
    assert letters([left, right], [(5, 0, 99, 99, 0.9), (*right, 0.8)]) == "TT"


def test_the_better_score_takes_the_annotation_wherever_it_stands() -> None:
    assert letters([FACE], [(*FACE, 0.2), (*FACE, 0.9)]) == "DT"
    assert letters([FACE], [(*FACE, 0.9), (*FACE, 0.9)]) == "TD"


@pytest.mark.parametrize("box", [(100, 100, -5, 80), (100, 100, 0, 0), (100, 100, -500, -500)], ids=str)
def test_a_prediction_without_extent_is_false(box: Box) -> None:
    assert letters([FACE], [(*box, 0.9)]) == "F"


def test_equal_scores_are_ordered_as_by_the_quicksort_of_old() -> None:
    """The figure depends on it; see `omz`. Up to 16 keep their order."""
    assert omz._order(np.ones(16)).tolist() == list(range(16))
    expected = [0, *range(21, 0, -1), 22, 23]
    assert omz._order(np.ones(24)).tolist() == expected
    assert omz._order(np.array([0.5, 0.9, 0.7])).tolist() == [1, 2, 0]


def test_the_curve_holds_every_prediction() -> None:
    curve = scored(([FACE, OTHER], [(*FACE, 0.9), (*BESIDE, 0.8), (*OTHER, 0.7)])).curves[0]
    assert curve.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert curve.recall.tolist() == [1 / 2, 1 / 2, 1]
    assert curve.scores.tolist() == [0.9, 0.8, 0.7]


def test_faults_are_those_of_boxes_that_would_be_shown() -> None:
    faults = scored(([FACE, OTHER], [(*FACE, 0.9), (*FACE, 0.5), (*BESIDE, 0.6), (*BESIDE, 0.4), (*OTHER, 0.4)])).faults
    assert [(fault.setting, fault.faces, fault.misses, fault.false_boxes) for fault in faults] == [("mAP", 2, 1, 2)]


# --- rule 3 ---


def heads(
    size: tuple[int, int], fill: Callable[[str, npt.NDArray[np.float32]], None], batch: int = 1
) -> dict[str, Any]:
    outputs = {}
    for head in RULES.heads:
        cells = (math.ceil(size[0] / head.stride), math.ceil(size[1] / head.stride))
        for name, channels in ((head.scores, 4), (head.boxes, 8)):
            outputs[name] = np.zeros((batch, channels, *cells), np.float32)
            fill(name, outputs[name])
    return outputs


def untouched(name: str, array: npt.NDArray[np.float32]) -> None:
    """Zeros: every box is its anchor."""


def random_heads(seed: int) -> dict[str, Any]:
    random: Any = np.random.RandomState(seed)

    def fill(name: str, array: npt.NDArray[np.float32]) -> None:
        is_score = "prob" in name
        array[:] = random.random_sample(array.shape) if is_score else random.standard_normal(array.shape) * 0.4

    return heads((96, 160), fill, batch=2)


def plain_decode(outputs: dict[str, Any], index: int, scale: tuple[float, float]) -> list[Box]:
    """Rule 3 once more: corners and score."""
    found: list[Box] = []
    for head in RULES.heads:
        scores, deltas = outputs[head.scores][index], outputs[head.boxes][index]
        candidates = []
        for row in range(scores.shape[1]):
            for column in range(scores.shape[2]):
                for number, factor in enumerate(head.scales):
                    side = 16 * factor
                    dx, dy, dw, dh = (float(deltas[4 * number + part, row, column]) for part in range(4))
                    middle_x, middle_y = 7.5 + column * head.stride + dx * side, 7.5 + row * head.stride + dy * side
                    half_w, half_h = (math.exp(dw) * side - 1) / 2, (math.exp(dh) * side - 1) / 2
                    corners = (middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h)
                    candidates.append((*corners, float(scores[2 + number, row, column])))
        kept: list[Box] = []
        for box in sorted(candidates, key=lambda box: -box[4])[:1000]:
            if all(float_iou(box, better) <= 0.3 for better in kept):
                kept.append(box)
        found += kept
    return [(x1 / scale[0], y1 / scale[1], x2 / scale[0], y2 / scale[1], score) for x1, y1, x2, y2, score in found]


def float_iou(one: Box, other: Box) -> float:
    width = max(min(one[2], other[2]) - max(one[0], other[0]) + 1, 0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("seed", range(5))
def test_decoding_is_that_of_a_plain_second_implementation(seed: int) -> None:
    outputs = random_heads(seed)
    scales = [(160 / 333, 96 / 500), (0.5, 2.0)]
    for index, found in enumerate(omz.decode(outputs, scales, RULES)):
        expected = np.array(plain_decode(outputs, index, scales[index]))
        assert found.boxes.dtype == found.scores.dtype == np.float64
        np.testing.assert_allclose(found.boxes[:, :2], expected[:, :2], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.boxes[:, 2:], expected[:, 2:4] - expected[:, :2], rtol=0, atol=1e-9)
        np.testing.assert_array_equal(found.scores, expected[:, 4])
        assert (found.boxes[:, :2] < 0).any()  # nothing is clipped


def test_no_score_is_too_low_and_at_most_1000_are_kept_of_each_stride() -> None:
    outputs = heads((640, 640), untouched)
    for head in RULES.heads:  # boxes of 1 px at the centres of their cells, so that none is suppressed
        outputs[head.boxes][:, [2, 3, 6, 7]] = -math.log(16 * 32)
        outputs[head.boxes][:, [4, 5]] = 0.25
    found = omz.decode(outputs, [(1.0, 1.0)], RULES)[0]
    assert len(found.scores) == 800 + 1000 + 1000
    assert not found.scores.any()


def test_strides_do_not_suppress_one_another() -> None:
    outputs = heads((64, 64), untouched)
    for head in RULES.heads:  # the same box of 64 x 64 px from each of the three
        for number, factor in enumerate(head.scales):
            outputs[head.boxes][:, 4 * number + 2 : 4 * number + 4] = math.log(64 / (16 * factor))
        outputs[head.scores][0, 2, 0, 0] = 0.9
    found = omz.decode(outputs, [(1.0, 1.0)], RULES)[0]
    best = found.boxes[found.scores > 0.5]
    assert len(best) == 3
    np.testing.assert_allclose(best, [[-24, -24, 63, 63]] * 3, rtol=0, atol=1e-5)


def test_an_overlap_at_the_limit_is_not_suppressed() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 2]], np.float64)  # 30 of 100
    assert suppress(boxes, 0.3).tolist() == [0]
    assert suppress(boxes, 0.3, inclusive=False).tolist() == [0, 1]
    # Anchors of 16 px at stride 8: neighbours share 8 of 24 columns.
    outputs = heads((32, 32), untouched)
    outputs[RULES.heads[2].scores][0, 3, 0, :2] = (0.9, 0.8)
    found = omz.decode(outputs, [(1.0, 1.0)], RULES, OmzRules(overlap=1 / 3))[0]
    assert found.boxes[found.scores > 0.5].tolist() == [[0, 0, 15, 15], [8, 0, 15, 15]]


def test_a_longer_batch_is_cut_to_the_images() -> None:
    outputs = random_heads(1)
    one = omz.decode(outputs, [(1.0, 1.0)], RULES)
    assert len(one) == 1
    with pytest.raises(DetectionError, match=r"2.*3"):
        omz.decode(outputs, [(1.0, 1.0)] * 3, RULES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["rpn_cls_prob_reshape_stride8", "rpn_bbox_pred_stride32"])
def test_outputs_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    outputs = random_heads(1)
    outputs[name][1, 0, 0, 0] = value
    with pytest.raises(DetectionError, match=f"{name} holds NaN"):
        omz.decode(outputs, [(1.0, 1.0)] * 2, RULES)


def test_a_missing_output_is_named() -> None:
    outputs = random_heads(1)
    del outputs["rpn_bbox_pred_stride8"]
    with pytest.raises(DetectionError, match="rpn_bbox_pred_stride8"):
        omz.decode(outputs, [(1.0, 1.0)], RULES)


def test_boxes_of_infinite_size_stay_finite_and_find_nothing() -> None:
    outputs = random_heads(1)
    outputs["rpn_bbox_pred_stride8"][:, [2, 3]] = 5000
    found = omz.decode(outputs, [(0.5, 0.5)], RULES)[0]
    assert np.isfinite(found.boxes).all()
    judgement = omz.judge(truth([FACE]), found)
    assert len(judgement.outcomes["mAP"]) == len(found.scores)


# --- the data set ---


def test_records_of_another_protocol_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"a/b\.jpg"):
        omz.finish([ImageRecord(0, "a/b.jpg")])
    with pytest.raises(EvaluationError, match="no image was evaluated"):
        omz.finish([])


def test_from_corners_keeps_what_it_is_given() -> None:
    found = from_corners(np.array([[1.5, 2, 11, 22]], np.float32), np.array([0.1], np.float32))
    assert found.boxes.tolist() == [[1.5, 2, 9.5, 20]]
    assert found.scores.tolist() == [float(np.float32(0.1))]


def test_the_figure_is_that_of_the_accuracy_checker(shared_data: Path, official_predictions: Path) -> None:
    folder = shared_data / "wider"
    official = json.loads((folder / "official_figures.json").read_text(encoding="utf-8"))
    expected = official["omz_accuracy_checker_2023.3_rules_4_to_7"]
    result = score_predictions(read_ground_truth(folder), official_predictions, "omz")
    assert result.curves[0].average_precision == pytest.approx(expected["mAP"], abs=1e-9)
    assert result.curves[0].faces == expected["ground_truth"]
    assert result.predictions == expected["predictions"]
    assert len(result.failures) == 30
