from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from detections import SSH, table
from sshconvert.boxes import suppress
from sshconvert.errors import DetectionError
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AnchorHead

RULES = SSH
FILES = ("dense_640x640", "sparse_480x736", "sparse_640x640")


def random_heads(seed: int, height: int, width: int) -> dict[str, npt.NDArray[np.float32]]:
    random: Any = np.random.RandomState(seed)
    outputs = {}
    for head in RULES.heads:
        cells = (height // head.stride, width // head.stride)
        face = random.random_sample((1, 2, *cells)) ** random.randint(2, 30)
        outputs[head.scores] = np.concatenate([1 - face, face], axis=1).astype(np.float32)
        outputs[head.boxes] = (random.standard_normal((1, 8, *cells)) * 0.3).astype(np.float32)
    return outputs


def plain_detect(
    outputs: dict[str, npt.NDArray[np.float32]], size: tuple[int, int], rules: AnchorDetection
) -> list[tuple[float, ...]]:
    """Upstream's algorithm once more, a number at a time, from its description."""
    found = []
    for head in rules.heads:
        scores, deltas = outputs[head.scores][0], outputs[head.boxes][0]
        rows, columns = scores.shape[1:]
        candidates = []
        for row in range(rows):
            for column in range(columns):
                for number, scale in enumerate(head.scales):
                    side = 16 * scale
                    left, top = 7.5 - (side - 1) / 2 + column * head.stride, 7.5 - (side - 1) / 2 + row * head.stride
                    dx, dy, dw, dh = (float(deltas[4 * number + part, row, column]) for part in range(4))
                    centre_x, centre_y = left + (side - 1) / 2 + dx * side, top + (side - 1) / 2 + dy * side
                    width, height = math.exp(dw) * side, math.exp(dh) * side
                    corners = (
                        min(max(centre_x - (width - 1) / 2, 0), size[1] - 1),
                        min(max(centre_y - (height - 1) / 2, 0), size[0] - 1),
                        min(max(centre_x + (width - 1) / 2, 0), size[1] - 1),
                        min(max(centre_y + (height - 1) / 2, 0), size[0] - 1),
                    )
                    candidates.append((*corners, float(scores[len(head.scales) + number, row, column])))
        found += sorted(candidates, key=lambda box: -box[4])[: rules.candidates_per_stride]
    kept: list[tuple[float, ...]] = []
    for box in sorted(found, key=lambda box: -box[4]):
        if all(plain_iou(box, better) < rules.iou_threshold for better in kept):
            kept.append(box)
    return [box for box in kept if box[4] >= rules.score_threshold]


def plain_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("name", FILES)
def test_detections_equal_those_of_upstreams_own_code_in_the_same_order(name: str, shared_data: Path) -> None:
    with np.load(shared_data / "detections" / f"{name}.npz") as data:
        outputs, expected = dict(data), data["detections"]
    height, width = outputs["image_size"].tolist()
    found = RULES.decode(outputs, (height, width))[0]
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes, expected[:, :4], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected[:, 4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(100))
def test_detections_equal_a_plain_second_implementation(seed: int) -> None:
    size = (96 + 32 * (seed % 3), 160 - 32 * (seed % 2))
    outputs = random_heads(seed, *size)
    found = RULES.decode(outputs, size)[0]
    expected = np.array(plain_detect(outputs, size, RULES), np.float32).reshape(-1, 5)
    assert len(expected) > 3
    np.testing.assert_allclose(table(found), expected, rtol=0, atol=1e-3)


def test_exchanging_width_and_height_deltas_would_be_noticed() -> None:
    outputs = random_heads(1, 128, 128)
    swapped = {name: array[:, [0, 1, 3, 2, 4, 5, 7, 6]] if "bbox" in name else array for name, array in outputs.items()}
    found, other = RULES.decode(outputs, (128, 128))[0], RULES.decode(swapped, (128, 128))[0]
    assert len(found) != len(other) or np.abs(found.boxes - other.boxes).max() > 1


def test_each_image_of_a_batch_is_decoded_by_itself() -> None:
    first, second = random_heads(2, 96, 96), random_heads(3, 96, 96)
    batch = {name: np.concatenate([first[name], second[name]]) for name in first}
    found = RULES.decode(batch, (96, 96))
    for outputs, result in zip((first, second), found, strict=True):
        np.testing.assert_array_equal(table(result), table(RULES.decode(outputs, (96, 96))[0]))


def test_anchors_are_centred_squares_with_corner_pixels_included() -> None:
    boxes = RULES.heads[2].anchors(2, 2)
    assert boxes[:2].tolist() == [[-8, -8, 23, 23], [0, 0, 15, 15]]
    assert boxes[2].tolist() == [0, -8, 31, 23]
    assert boxes[4].tolist() == [-8, 0, 23, 31]


def test_anchors_of_other_ratios_are_rounded_as_upstream_rounds_them() -> None:
    """The nine anchors that Faster R-CNN's `generate_anchors` prints for its own defaults."""
    head = AnchorHead(stride=16, scales=(8, 16, 32), ratios=(0.5, 1, 2), scores="scores", boxes="boxes")
    assert head.anchors(1, 1).tolist() == [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]


def test_detections_equal_those_of_retinafaces_own_code(shared_data: Path) -> None:
    with np.load(shared_data / "detections-retinaface" / "astronaut_512x512.npz") as data:
        outputs, expected = dict(data), data["detections"]
    prefix = "face_rpn_"
    heads = tuple(
        AnchorHead(
            stride=stride,
            scales=(2 * scale, scale),
            scores=f"{prefix}cls_prob_reshape_stride{stride}",
            boxes=f"{prefix}bbox_pred_stride{stride}",
        )
        for stride, scale in ((32, 16), (16, 4), (8, 1))
    )
    task = AnchorDetection(kind="anchor_detection", score_threshold=0.5, iou_threshold=0.4, heads=heads)
    (found,) = task.decode(outputs, (512, 512))
    np.testing.assert_allclose(table(found), expected, rtol=0, atol=1e-3)


def test_a_box_at_the_overlap_threshold_is_suppressed() -> None:
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9]], np.float32)  # overlap 50, union 150
    assert suppress(boxes, 1 / 3).tolist() == [0]
    assert suppress(boxes, 0.34).tolist() == [0, 1]


def test_no_score_above_the_threshold_gives_no_detections() -> None:
    outputs = {name: np.zeros_like(array) for name, array in random_heads(0, 96, 96).items()}
    assert RULES.decode(outputs, (96, 96))[0].boxes.shape == (0, 4)


def test_a_missing_tensor_is_named() -> None:
    outputs = random_heads(0, 96, 96)
    del outputs["rpn_bbox_pred_stride16"]
    with pytest.raises(DetectionError, match="rpn_bbox_pred_stride16"):
        RULES.decode(outputs, (96, 96))


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (8, 3, 3), (2, 8, 3, 3), (1, 8, 3, 4)], ids=str)
def test_a_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    outputs = random_heads(0, 96, 96)
    outputs["rpn_bbox_pred_stride32"] = np.zeros(shape, np.float32)
    with pytest.raises(DetectionError, match="rpn_bbox_pred_stride32"):
        RULES.decode(outputs, (96, 96))
