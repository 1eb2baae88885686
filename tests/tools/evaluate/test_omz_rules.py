"""Open Model Zoo's protocol with the settings of RetinaFace and of MobileFace, beside a plain second implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from sshconvert.errors import EvaluationError, ModelError
from sshconvert.models.protocols import OmzRules
from sshconvert.models.registry import load_model, parse_model
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.yolo_detection import YoloDetection
from sshconvert.tasks.yolo_heads import YoloHead
from sshtool.evaluate import matching, omz
from sshtool.evaluate.predictions import Predictions
from sshtool.evaluate.records import ImageRecord
from sshtool.wider_face.ground_truth import ImageTruth

Box: TypeAlias = tuple[float, ...]
Images: TypeAlias = Sequence[tuple[Sequence[Box], Sequence[Box]]]

RETINAFACE: Final = OmzRules(candidates_per_stride=0, overlap=0.5, overlap_with_corners=False, match_with_corners=False)
MOBILEFACE: Final = OmzRules(
    candidates_per_stride=0,
    suppression="image",
    overlap=0.45,
    least_score=0.001,
    clipped=True,
    rounded=False,
    largest_coordinate=0,
    least_height=60,
    largest_height=0,
    match_with_corners=False,
    difficult_once=False,
)
BOTH: Final = pytest.mark.parametrize("rules", [RETINAFACE, MOBILEFACE], ids=["retinaface", "mobileface"])

ANCHORS: Final = AnchorDetection(
    kind="anchor_detection",
    score_threshold=0.5,
    iou_threshold=0.4,
    heads=tuple(
        AnchorHead(stride=stride, scales=(2 * scale, scale), scores=f"scores{stride}", boxes=f"boxes{stride}")
        for stride, scale in ((32, 16), (16, 4), (8, 1))
    ),
)
YOLO: Final = YoloDetection(
    kind="yolo_detection",
    score_threshold=0.5,
    iou_threshold=0.45,
    heads=tuple(
        YoloHead(stride=stride, anchors=anchors, output=f"head{stride}")
        for stride, anchors in ((32, ((118, 157), (186, 248))), (16, ((43, 54), (60, 75))), (8, ((10, 12), (16, 20))))
    ),
)


def truth(faces: Sequence[Box]) -> ImageTruth:
    return ImageTruth("0--Drawn/1.jpg", np.array(faces, np.float64).reshape(-1, 4), np.zeros((0, 4)), {})


def predicted(rows: Sequence[Box]) -> Predictions:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Predictions(table[:, :4], table[:, 4])


def letters(faces: Sequence[Box], rows: Sequence[Box], rules: OmzRules) -> str:
    return omz.judge(truth(faces), predicted(rows), rules).outcomes["mAP"]


def figure(images: Images, rules: OmzRules) -> tuple[float, int]:
    records = [
        ImageRecord(index, f"0--Drawn/{index}.jpg", {"omz": omz.judge(truth(faces), predicted(rows), rules)})
        for index, (faces, rows) in enumerate(images)
    ]
    (curve,) = omz.finish(records).curves
    return curve.average_precision, curve.faces


# --- the rules once more, a box at a time ---


def shared(one: Box, other: Box, last: int) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + last
    height = min(one[3], other[3]) - max(one[1], other[1]) + last
    return width * height if width > 0 and height > 0 else 0.0


def area(box: Box, last: int) -> float:
    return (box[2] - box[0] + last) * (box[3] - box[1] + last)


def iou(one: Box, other: Box, last: int) -> float:
    common = shared(one, other, last)
    union = area(one, last) + area(other, last) - common
    return common / union if union else 0.0


def cornered(box: Box, *, retinaface: bool) -> Box:
    x, y, w, h = box[:4]
    found = (x, y, x + w, y + h)
    return tuple(float(round(value)) for value in found) if retinaface else found


def plain_annotation(face: Box, *, retinaface: bool) -> tuple[Box, bool]:
    """The annotation, and whether it is difficult."""
    box = cornered(face, retinaface=retinaface)
    if retinaface:
        box = tuple(min(max(value, 0.0), 1024.0) for value in box)
    height = box[3] - box[1]
    return box, bool(height < (64 if retinaface else 60) or box[2] <= box[0])


def plain_outcomes(rows: Sequence[Box], annotations: Sequence[tuple[Box, bool]], *, retinaface: bool) -> list[str]:
    used: set[int] = set()
    outcomes = ["wrong"] * len(rows)
    for at in sorted(range(len(rows)), key=lambda at: -rows[at][4]):
        box = cornered(rows[at], retinaface=retinaface)
        for wanted in (False, True):
            if wanted and not retinaface:
                own = area(box, 0)
                if own > 0 and any(shared(box, face, 0) / own >= 0.5 for face, difficult in annotations if difficult):
                    outcomes[at] = "neither"
                break
            numbered = enumerate(annotations)
            found = [(iou(box, face, 0), -place) for place, (face, difficult) in numbered if difficult is wanted]
            if found and max(found)[0] >= 0.5:
                place = -max(found)[1]
                outcomes[at] = "wrong" if place in used else "neither" if wanted else "hit"
                used.add(place)
                break
    return outcomes


def plain_figure(images: Images, *, retinaface: bool) -> tuple[float, int]:
    """Rules 4 to 7 of one of the two."""

    outcomes: list[str] = []
    counted = 0
    for faces, rows in images:
        annotations = [plain_annotation(face, retinaface=retinaface) for face in faces]
        counted += sum(not difficult for _, difficult in annotations)
        outcomes += plain_outcomes(rows, annotations, retinaface=retinaface)
    flat = [row[4] for _, rows in images for row in rows]
    # Objects are sorted by the quicksort that the accuracy checker had.
    order = np.argsort(np.array([-score for score in flat], object), kind="quicksort").tolist()
    points, hits, wrong = [], 0, 0
    for at in order:
        hits, wrong = hits + (outcomes[at] == "hit"), wrong + (outcomes[at] == "wrong")
        points.append((hits, hits / (hits + wrong) if hits + wrong else 0.0))
    total, before = 0.0, 0
    for index, (reached, _) in enumerate(points):
        total += (reached - before) / max(counted, 1) * max(precision for _, precision in points[index:])
        before = reached
    return total, counted


def random_images(seed: int) -> Images:
    random: Any = np.random.RandomState(seed)

    def face() -> Box:
        x, y = random.choice([0, 0, 30, 980.5], 2)
        return (x, y, random.choice([0, 40, 64, 80.5, 200, -3]), random.choice([30, 59, 60, 63, 64, 100.5, 0]))

    images = []
    for _ in range(random.randint(1, 6)):
        faces = [face() for _ in range(random.choice([0, 1, 2, 4]))]
        rows: list[Box] = []
        for _ in range(random.choice([0, 1, 3, 8])):
            base = faces[random.randint(len(faces))] if faces and random.rand() < 0.8 else face()
            moved = [value + random.choice([-20, -4, -1, -0.5, 0, 0, 0, 0.5, 3, 30]) for value in base]
            rows.append((*moved, random.choice([0.1, 0.5, 0.999]) if random.rand() < 0.6 else random.rand()))
            if random.rand() < 0.3:
                rows.append(rows[-1])
        images.append((faces, rows))
    return images


@pytest.mark.independent
@BOTH
@pytest.mark.parametrize("seed", range(80))
def test_the_figure_is_that_of_a_plain_second_implementation(seed: int, rules: OmzRules) -> None:
    images = random_images(seed)
    expected, faces = plain_figure(images, retinaface=rules is RETINAFACE)
    found, counted = figure(images, rules)
    assert found == pytest.approx(expected, abs=1e-12)
    assert counted == faces


@pytest.mark.independent
@BOTH
def test_the_random_cases_contain_all_outcomes(rules: OmzRules) -> None:
    found = "".join(letters(faces, rows, rules) for seed in range(80) for faces, rows in random_images(seed))
    assert min(found.count(letter) for letter in "TDFN") > 8


# --- known answers ---

FACE: Final = (100.0, 100.0, 80.0, 80.0)
LOW: Final = (400.0, 100.0, 80.0, 50.0)  # difficult by both


@pytest.mark.independent
@BOTH
def test_perfect_predictions_give_one_and_a_false_one_before_them_half(rules: OmzRules) -> None:
    assert figure([([FACE], [(*FACE, 0.5)])], rules) == (1.0, 1)
    assert figure([([FACE], [(*FACE, 0.5), (600, 600, 80, 80, 0.9)])], rules) == (0.5, 1)


@pytest.mark.independent
def test_only_mobileface_leaves_several_predictions_on_a_difficult_face_out() -> None:
    rows = [(*LOW, 0.9), (*LOW, 0.8), (*FACE, 0.5)]
    assert letters([FACE, LOW], rows, RETINAFACE) == "NDT"
    assert letters([FACE, LOW], rows, MOBILEFACE) == "NNT"
    assert figure([([FACE, LOW], rows)], RETINAFACE)[0] == 0.5
    assert figure([([FACE, LOW], rows)], MOBILEFACE)[0] == 1.0


@pytest.mark.independent
def test_only_mobileface_measures_the_share_of_the_prediction_in_a_difficult_face() -> None:
    """A quarter of the difficult face overlaps it by 1 / 4, and lies in it whole."""
    part = (400.0, 100.0, 40.0, 25.0, 0.9)
    assert letters([LOW], [part], RETINAFACE) == "F"
    assert letters([LOW], [part], MOBILEFACE) == "N"
    half_outside = (360.0, 100.0, 80.0, 25.0, 0.9)
    assert letters([LOW], [half_outside], MOBILEFACE) == "N"
    assert letters([LOW], [(359.0, 100.0, 80.0, 25.0, 0.9)], MOBILEFACE) == "F"


@pytest.mark.independent
@BOTH
def test_overlaps_with_faces_do_not_include_the_corner_pixels(rules: OmzRules) -> None:
    """65 x 32 in 65 x 65 is 0.492, and with its corner pixels exactly one half."""
    assert letters([(0, 0, 65, 65)], [(0, 0, 65, 32, 0.9)], rules) == "F"
    assert letters([(0, 0, 65, 65)], [(0, 0, 65, 32, 0.9)], omz.SSH) == "T"


@pytest.mark.independent
@pytest.mark.parametrize(
    ("face", "retinaface", "mobileface"),
    [
        ((10, 0, 70, 63.5), 1, 1),
        ((10, 0, 70, 62), 0, 1),
        ((10, 0, 70, 60), 0, 1),
        ((10, 0, 70, 59.9), 0, 0),
        ((10, 970, 70, 100), 0, 1),  # beyond 1024
        ((1100, 10, 90, 100), 0, 1),
        ((10, 10, 0, 100), 0, 0),
    ],
    ids=str,
)
def test_which_annotations_count(face: Box, retinaface: int, mobileface: int) -> None:
    for rules, expected in ((RETINAFACE, retinaface), (MOBILEFACE, mobileface)):
        assert omz.judge(truth([face]), predicted([]), rules).faces == {"mAP": expected}
        assert omz.counted(truth([face]), rules).tolist() == [bool(expected)]


@pytest.mark.independent
def test_too_many_pairs_with_difficult_faces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omz, "MOST_OVERLAPS", 5)
    assert matching.MOST_OVERLAPS > 5
    with pytest.raises(EvaluationError, match="2 predictions and 3 difficult faces"):
        letters([LOW] * 3, [(*FACE, 0.5)] * 2, MOBILEFACE)


# --- rule 3 ---


def outputs_of(task: DetectionTask, seed: int) -> dict[str, npt.NDArray[Any]]:
    random: Any = np.random.RandomState(seed)
    found: dict[str, npt.NDArray[Any]] = {}
    if isinstance(task, YoloDetection):
        for yolo in task.heads:
            found[yolo.output] = 2 * random.standard_normal((1, 12, 64 // yolo.stride, 96 // yolo.stride))
            found[yolo.output][:, [4, 10]] -= 4  # so that some scores are below 0.001
    else:
        assert isinstance(task, AnchorDetection)
        for head in task.heads:
            cells = (64 // head.stride, 96 // head.stride)
            found[head.scores] = random.random_sample((1, 4, *cells)) ** 4
            found[head.boxes] = random.standard_normal((1, 8, *cells)) * 0.4
    return {name: array.astype(np.float32) for name, array in found.items()}


def suppressed(rows: list[Box], overlap: float, last: int) -> list[Box]:
    kept: list[Box] = []
    for box in sorted(rows, key=lambda box: -box[4]):
        if all(iou(box, better, last) <= overlap for better in kept):
            kept.append(box)
    return kept


@pytest.mark.independent
@pytest.mark.parametrize("seed", range(4))
def test_retinafaces_predictions_are_suppressed_in_each_stride_without_the_corner_pixels(seed: int) -> None:
    outputs = outputs_of(ANCHORS, seed)
    expected: list[Box] = []
    for head in ANCHORS.heads:
        scores, deltas = outputs[head.scores][0].astype(float), outputs[head.boxes][0].astype(float)
        rows: list[Box] = []
        for row in range(scores.shape[1]):
            for column in range(scores.shape[2]):
                for number, scale in enumerate(head.scales):
                    side = 16 * scale
                    dx, dy, dw, dh = deltas[4 * number : 4 * number + 4, row, column]
                    x, y = 7.5 + column * head.stride + dx * side, 7.5 + row * head.stride + dy * side
                    w, h = (math.exp(dw) * side - 1) / 2, (math.exp(dh) * side - 1) / 2
                    rows.append((x - w, y - h, x + w, y + h, scores[2 + number, row, column]))
        expected += suppressed(rows, 0.5, 0)
    (found,) = omz.decode(outputs, [(0.5, 2.0)], ANCHORS, RETINAFACE)
    table = np.array(expected)
    np.testing.assert_allclose(found.boxes[:, :2] * [0.5, 2.0], table[:, :2], atol=1e-6)
    np.testing.assert_allclose(found.boxes[:, 2:] * [0.5, 2.0], table[:, 2:4] - table[:, :2], atol=1e-6)
    np.testing.assert_allclose(found.scores, table[:, 4], atol=1e-9)


@pytest.mark.independent
def test_landmarks_and_the_mask_of_anti_cov_change_no_prediction() -> None:
    task = load_model("retinaface-anti-cov").task
    assert isinstance(task, AnchorDetection)
    random: Any = np.random.RandomState(0)
    widths = {"cls_prob": 4, "bbox_pred": 8, "landmark_pred": 20, "type_prob": 6}
    outputs = {}
    for name in task.outputs():
        stride = int(name.rpartition("stride")[2])
        channels = next(width for part, width in widths.items() if part in name)
        outputs[name] = random.random_sample((1, channels, 64 // stride, 96 // stride)).astype(np.float32)
    bare = tuple(head.model_copy(update={"landmarks": None, "attributes": None}) for head in task.heads)
    (found,) = omz.decode(outputs, [(1.0, 1.0)], task, RETINAFACE)
    (expected,) = omz.decode(outputs, [(1.0, 1.0)], task.model_copy(update={"heads": bare}), RETINAFACE)
    assert len(found.scores) > 20
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.independent
@pytest.mark.parametrize("seed", range(4))
def test_mobilefaces_predictions_are_suppressed_over_all_strides_in_the_image_and_clipped(seed: int) -> None:
    outputs = outputs_of(YOLO, seed)
    scale_x, scale_y = 96 / 300, 64 / 400
    rows: list[Box] = []

    def squashed(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    for head in YOLO.heads:
        tensor = outputs[head.output][0].astype(float)
        for number, (width, height) in enumerate(head.anchors):
            for row in range(tensor.shape[1]):
                for column in range(tensor.shape[2]):
                    x, y, w, h, objectness, face = tensor[6 * number : 6 * number + 6, row, column]
                    score = squashed(objectness) * squashed(face)
                    x, y = head.stride * (column + squashed(x)) / scale_x, head.stride * (row + squashed(y)) / scale_y
                    w, h = width * math.exp(w) / scale_x / 2, height * math.exp(h) / scale_y / 2
                    if score >= 0.001:
                        rows.append((x - w, y - h, x + w, y + h, score))
    assert len(rows) < 2 * (2 * 3 + 4 * 6 + 8 * 12)
    kept = np.array(suppressed(rows, 0.45, 1))
    corners = np.clip(kept[:, :4], 0, [300, 400, 300, 400])
    (found,) = omz.decode(outputs, [(scale_x, scale_y)], YOLO, MOBILEFACE, input_size=(64, 96))
    np.testing.assert_allclose(found.boxes[:, :2], corners[:, :2], atol=1e-6)
    np.testing.assert_allclose(found.boxes[:, 2:], corners[:, 2:] - corners[:, :2], atol=1e-6)
    np.testing.assert_allclose(found.scores, kept[:, 4], atol=1e-9)


# --- descriptions ---


@pytest.mark.independent
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("ssh-mxnet", omz.SSH),
        ("retinaface-mnet25", RETINAFACE),
        ("retinaface-resnet50", RETINAFACE),
        ("retinaface-anti-cov", RETINAFACE),
        ("mobilefacedet-v1-mxnet", MOBILEFACE),
    ],
)
def test_the_shipped_models_have_their_rules(name: str, rules: OmzRules) -> None:
    assert load_model(name).omz == rules


MODEL: Final = """
name = "faces"
inputs = [{ name = "data", shape = [1, 3, 64, 64], image = {} }]
task = { kind = "tensors", names = ["a"] }
[omz]
overlap = 0.5
match_with_corners = false
[wider]
shorter_side = 1600
longer_side = 2150
score_threshold = 0.02
"""


@pytest.mark.independent
def test_a_description_sets_the_rules() -> None:
    model = parse_model(MODEL.encode(), source="faces.toml")
    assert model.omz == OmzRules(overlap=0.5, match_with_corners=False)
    assert model.omz.differences() == "overlap 0.5, match_with_corners false"
    assert OmzRules().differences() == ""
    assert (model.wider.shorter_side, model.wider.score_threshold) == (1600, 0.02)


@pytest.mark.independent
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("overlap = 0.5", "overlap = 1.5", r"omz\.overlap"),
        ("overlap = 0.5", 'suppression = "batch"', r"omz\.suppression"),
        ("overlap = 0.5", "largest_coordinate = -1", r"omz\.largest_coordinate"),
        ("overlap = 0.5", "iou = 0.5", r"omz\.iou"),
        ("score_threshold = 0.02", "score_threshold = 0", r"wider\.score_threshold"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"faces.toml: .*{message}"):
        parse_model(MODEL.replace(old, new).encode(), source="faces.toml")
