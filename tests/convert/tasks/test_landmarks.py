"""Landmarks and attributes of anchors: decoding by hand, and the same in both runtimes with the detections inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import pydantic
import pytest

from sshconvert.arrays import Array
from sshconvert.errors import DetectionError
from sshconvert.graph import Dimensions
from sshconvert.libraries import import_openvino
from sshconvert.onnx.model import OnnxModel
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.inside import Columns, Inside
from sshconvert.tasks.results import landmarks_of, score_of

pytestmark = pytest.mark.independent

BLOCKS: Final = {"tensor": "kinds", "blocks": ("hat", "", "mask")}


def task_of(**change: Any) -> AnchorDetection:
    """Anchors of 16 and 32 pixels, with three landmarks and two attributes."""
    head = {"stride": 16, "base_size": 16, "scales": (1, 2), "scores": "prob", "boxes": "delta", "points": 3}
    head |= {"landmarks": "point", "attributes": BLOCKS}
    return AnchorDetection.model_validate(
        {"kind": "anchor_detection", "score_threshold": 0.5, "iou_threshold": 0.4, "heads": [head | change]}
    )


def heads_of(task: AnchorDetection, size: tuple[int, int, int], seed: int = 0) -> dict[str, Array]:
    random: Any = np.random.RandomState(seed)
    number, height, width = size
    (head,) = task.heads
    drawn = {
        name: random.standard_normal((number, channels * len(head.sizes), height, width)) * 0.3
        for name, channels in head.tensors
    }
    drawn["prob"] = random.random_sample(drawn["prob"].shape)
    drawn["kinds"] = random.random_sample(drawn["kinds"].shape)
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def test_one_face_worked_out_by_hand() -> None:
    task = task_of(box_std=(0.5, 0.5, 1, 1), landmark_std=0.25)
    heads = {name: np.zeros((1, 2 * channels, 2, 3), np.float32) for name, channels in task.heads[0].tensors}
    heads["prob"][0, 3, 1, 2] = 0.75  # the larger anchor of the last cell: 32 pixels, centred at 39.5, 23.5
    heads["delta"][0, 4:6, 1, 2] = 0.25, -0.5  # moves it by 4 and -8
    heads["point"][0, 6:12, 1, 2] = 1, 0, 0, -1, 0.5, 8
    heads["kinds"][0, [1, 3, 5], 1, 2] = 0.1, 0.2, 0.9  # three blocks of two anchors
    (found,) = task.decode(heads, (64, 64))
    np.testing.assert_array_equal(found.boxes, [[28, 0, 59, 31]])
    assert found.landmarks is not None
    np.testing.assert_array_equal(found.landmarks, [[[47.5, 23.5], [39.5, 15.5], [43.5, 87.5]]])  # beyond the image
    assert found.attributes is not None
    np.testing.assert_allclose(found.attributes, [[0.1, 0.9]], rtol=1e-6)
    assert found.attribute_rows(task.columns.attributes)[0] == pytest.approx({"hat": 0.1, "mask": 0.9})
    (row,) = found.rows()
    assert score_of(row) == 0.75
    assert landmarks_of(row) == ((47.5, 23.5), (39.5, 15.5), (43.5, 87.5))
    assert found[:0].rows() == ()


@pytest.mark.parametrize("free", [False, True], ids=["that size", "any size"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="landmarks and attributes"),
        pytest.param({"attributes": None}, id="landmarks"),
        pytest.param({"landmarks": None, "ratios": (0.5, 2)}, id="attributes"),
        pytest.param({"box_std": (0.1, 0.2, 0.3, 0.4), "landmark_std": 0.2, "ratios": (1, 1.5)}, id="deviations"),
    ],
)
def test_both_runtimes_carry_them_through_the_suppression(change: dict[str, Any], free: bool, tmp_path: Path) -> None:
    size, task = (2, 6, 5), task_of(**change)
    images = (2, 96, 80)
    (head,) = task.heads
    drawn = heads_of(task_of(ratios=head.ratios), size)
    heads = {name: drawn[name] for name in head.outputs}
    expected = task.decode(heads, images[1:])
    assert min(map(len, expected)) > 3

    shapes: dict[str, Dimensions] = {name: values.shape for name, values in heads.items()}
    if free:
        shapes = {name: ("n", values.shape[1], "", "") for name, values in heads.items()}
    data: Dimensions = ("n", 3, "h", "w") if free else (2, 3, *images[1:])
    made = task.append_to(
        OnnxModel("heads", (), {}, {"data": data, **shapes}, shapes), input_name="data", top_k=100, keep_heads=False
    )
    assert tuple(made.outputs) == task.inside_outputs
    path = tmp_path / "inside.onnx"
    made.write(path)
    feed = {"data": np.zeros((2, 3, *images[1:]), np.float32), **heads}
    for outputs in (by_onnxruntime(path, feed), by_openvino(path, feed)):
        problems = task.problems_inside(heads, outputs, Inside(task.score_threshold, task.iou_threshold, 100))
        assert problems == ()
        for ours, right in zip(task.decode_inside(outputs), expected, strict=True):
            np.testing.assert_array_equal(ours.scores, right.scores)
            for name in ("boxes", "landmarks", "attributes"):
                one, other = getattr(ours, name), getattr(right, name)
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


def by_onnxruntime(path: Path, feed: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {item.name: feed[item.name] for item in session.get_inputs()}), strict=True)
    )


def by_openvino(path: Path, feed: dict[str, Array]) -> dict[str, Array]:
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled({port.any_name: feed[port.any_name] for port in compiled.inputs})
    return {port.any_name: np.array(value) for port, value in answer.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"attributes": {"tensor": "kinds", "blocks": ("", "")}}, "blocks needs", id="no name"),
        pytest.param({"attributes": {"tensor": "kinds", "blocks": ("a", "a")}}, "all different", id="a name twice"),
        pytest.param({"attributes": {"tensor": "delta", "blocks": ("a",)}}, "same name", id="a tensor twice"),
        pytest.param({"landmark_std": 0}, "landmark_std", id="a deviation of 0"),
        pytest.param({"box_std": (1, 1, 1)}, "box_std", id="three deviations"),
        pytest.param({"points": 0}, "points", id="no points"),
    ],
)
def test_a_meaningless_head_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        task_of(**change)


def test_heads_with_different_landmarks_are_refused() -> None:
    (head,) = task_of().heads
    other = head.model_copy(update={"points": 5, "scores": "s", "boxes": "b", "landmarks": "l", "attributes": None})
    fields = task_of().model_dump() | {"heads": [head.model_dump(), other.model_dump()]}
    with pytest.raises(pydantic.ValidationError, match="different landmarks or attributes"):
        AnchorDetection.model_validate(fields)


@pytest.mark.parametrize("name", ["point", "kinds"])
def test_tensors_of_other_channels_are_refused_in_one_line(name: str) -> None:
    task = task_of()
    heads = heads_of(task, (1, 2, 2))
    with pytest.raises(DetectionError, match=f"{name} has shape .*, expected ") as caught:
        task.decode(heads | {name: heads[name][:, 1:]}, (32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["landmarks", "attributes"])
def test_a_file_with_other_landmarks_or_attributes_has_problems(name: str) -> None:
    task, shapes = task_of(), Columns(3, ("hat", "mask")).shapes(1, 4)
    types = {"count": np.int32}
    outputs: dict[str, Array] = {
        key: np.zeros(tuple(map(int, shape)), types.get(key, np.float32)) for key, shape in shapes.items()
    }
    heads, declared = heads_of(task, (1, 1, 2)), Inside(0.5, 0.4, 9)
    assert task.problems_inside(heads, outputs, declared) == ()
    filled = outputs[name].copy()
    filled[0, -1] = 1
    for wrong, message in (
        (outputs[name][:, :, 1:], "shape"),
        (outputs[name].astype(np.float64), "float64"),
        (filled, "behind the last face"),
        (filled * np.nan, "not finite"),
    ):
        (problem, *_) = task.problems_inside(heads, outputs | {name: wrong}, declared)
        assert problem.output == name
        assert message in problem.message
    (missing,) = task.problems_inside(heads, {key: value for key, value in outputs.items() if key != name}, declared)
    assert missing.message == f"{name} is missing"
    with pytest.raises(DetectionError, match=name):
        task.decode_inside(outputs | {name: outputs[name][:, :, 1:]})
