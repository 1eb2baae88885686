"""Heads of YOLOv3: their decoding, beside a plain second implementation and MXNet's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings, strategies as st

import zoo
from detections import table
from sshconvert.errors import DetectionError, ModelError, UsageError
from sshconvert.graph import Dimensions
from sshconvert.libraries import import_openvino
from sshconvert.models.registry import parse_model
from sshconvert.onnx.model import OnnxModel
from sshconvert.tasks.results import Detections
from sshconvert.tasks.yolo_detection import YoloDetection
from sshconvert.tasks.yolo_heads import YoloHead

Tensors = dict[str, npt.NDArray[Any]]

# The heads of mobilefacedet-v1-mxnet.
ANCHORS: Final = {
    32: ((118, 157), (186, 248), (285, 379)),
    16: ((43, 54), (60, 75), (80, 106)),
    8: ((10, 12), (16, 20), (23, 29)),
}
TASK: Final = YoloDetection(
    kind="yolo_detection",
    score_threshold=0.3,
    iou_threshold=0.45,
    heads=tuple(
        YoloHead(stride=stride, anchors=anchors, output=f"head{stride}") for stride, anchors in ANCHORS.items()
    ),
)
THREE: Final = TASK.model_copy(update={"labels": ("face", "hand", "foot")})


def tensors_of(task: YoloDetection, size: tuple[int, int, int], seed: int, spread: float = 1.0) -> Tensors:
    random = np.random.default_rng(seed)
    number, height, width = size
    return {
        head.output: (
            spread
            * random.standard_normal(
                (number, len(head.anchors) * (5 + len(task.labels)), height // head.stride, width // head.stride)
            )
        ).astype(np.float32)
        for head in task.heads
    }


def plain(task: YoloDetection, outputs: Tensors, size: tuple[int, int]) -> list[tuple[float, ...]]:
    """The rules once more, a number at a time, in double precision: x1, y1, x2, y2, score and class."""

    def squashed(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    rows: list[tuple[float, ...]] = []
    for head in task.heads:
        tensor = outputs[head.output][0].astype(np.float64)
        block = 5 + len(task.labels)
        for number, (width, height) in enumerate(head.anchors):
            for row in range(tensor.shape[1]):
                for column in range(tensor.shape[2]):
                    x, y, w, h, objectness, *classes = tensor[number * block : (number + 1) * block, row, column]
                    x, y = head.stride * (column + squashed(x)), head.stride * (row + squashed(y))
                    w, h = width * math.exp(w), height * math.exp(h)
                    corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                    for label, value in enumerate(classes):
                        score = squashed(value) * squashed(objectness)
                        if score >= task.score_threshold:
                            rows.append((*corners, score, label))
    kept: list[tuple[float, ...]] = []
    for candidate in sorted(rows, key=lambda item: -item[4]):
        if all(other[5] != candidate[5] or overlap(candidate, other) <= task.iou_threshold for other in kept):
            kept.append(candidate)
    limits = (size[1], size[0], size[1], size[0])
    return [(*(min(max(row[place], 0), limits[place]) for place in range(4)), *row[4:]) for row in kept]


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width, height = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def rows_of(found: Detections) -> npt.NDArray[Any]:
    classes = np.zeros(len(found)) if found.class_ids is None else found.class_ids
    return np.column_stack([found.boxes, found.scores, classes])


@pytest.mark.independent
@settings(max_examples=40, deadline=None)  # a loaded machine is slow
@given(
    seed=st.integers(0, 1 << 16),
    cells=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    task=st.sampled_from([TASK, THREE]),
    spread=st.floats(0.1, 2),
    threshold=st.floats(0.2, 0.8),
)
def test_detections_equal_a_plain_second_implementation(
    seed: int, cells: tuple[int, int], task: YoloDetection, spread: float, threshold: float
) -> None:
    task = task.with_thresholds(threshold)
    size = (32 * cells[0], 32 * cells[1])
    outputs = {name: array.astype(np.float64) for name, array in tensors_of(task, (1, *size), seed, spread).items()}
    (found,) = task.decode(outputs, size)
    expected = np.array(plain(task, outputs, size)).reshape(-1, 6)
    np.testing.assert_allclose(rows_of(found), expected, rtol=0, atol=1e-9)


@pytest.mark.independent
def test_single_precision_finds_the_same_boxes() -> None:
    outputs = tensors_of(TASK, (1, 64, 96), 0)
    (found,) = TASK.decode(outputs, (64, 96))
    assert len(found) > 20
    assert found.boxes.dtype == found.scores.dtype == np.float32
    expected = np.array(plain(TASK, outputs, (64, 96)))
    np.testing.assert_allclose(table(found), expected[:, :5], rtol=0, atol=1e-4)


@pytest.mark.independent
def test_a_box_that_is_known_comes_out() -> None:
    """Zeros are the middle of a cell, the anchor's own size and a score of a quarter."""
    outputs = {name: np.full_like(array, -20) for name, array in tensors_of(TASK, (1, 256, 256), 0).items()}
    outputs["head16"][0, 6:12, 3, 5] = (0, 0, 0, 0, 20, 20)  # the second anchor, 60 x 75
    (found,) = TASK.decode(outputs, (256, 256))
    np.testing.assert_allclose(table(found), [[88 - 30, 56 - 37.5, 88 + 30, 56 + 37.5, 1]], atol=1e-4)
    outputs["head16"][0, 6:12, 3, 5] = (0, 0, math.log(0.5), math.log(2), 0, 0)
    (found,) = TASK.with_thresholds(0.2).decode(outputs, (256, 256))
    np.testing.assert_allclose(table(found), [[88 - 15, 0, 88 + 15, 56 + 75, 0.25]], atol=1e-4)


@pytest.mark.independent
def test_each_image_of_a_batch_is_decoded_by_itself() -> None:
    outputs = tensors_of(THREE, (3, 64, 64), 1)
    for number, found in enumerate(THREE.decode(outputs, (64, 64))):
        alone = {name: array[number : number + 1] for name, array in outputs.items()}
        np.testing.assert_array_equal(rows_of(found), rows_of(THREE.decode(alone, (64, 64))[0]))


@pytest.mark.independent
def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    outputs = {name: np.full_like(array, -20) for name, array in tensors_of(THREE, (1, 64, 64), 0).items()}
    outputs["head32"][0, :8, 0, 0] = (0, 0, 0, 0, 20, 3, 2, -20)
    (found,) = THREE.decode(outputs, (64, 64))
    assert found.class_ids is not None
    assert found.class_ids.tolist() == [0, 1]
    np.testing.assert_array_equal(found.boxes[0], found.boxes[1])


@pytest.mark.independent
def test_boxes_are_clipped_after_the_suppression() -> None:
    """Two boxes of 118 x 157 around (16, 16) and (48, 16) overlap by 86 / 150, and inside the image more."""
    outputs = {name: np.full_like(array, -20) for name, array in tensors_of(TASK, (1, 64, 64), 0).items()}
    for column in (0, 1):
        outputs["head32"][0, :6, 0, column] = (0, 0, 0, 0, 20, 20)
    (found,) = TASK.with_thresholds(iou=0.6).decode(outputs, (64, 64))
    assert found.boxes.tolist() == [[0, 0, 64, 64], [0, 0, 64, 64]]
    (found,) = TASK.with_thresholds(iou=0.57).decode(outputs, (64, 64))
    assert len(found) == 1


@pytest.mark.independent
def test_infinite_boxes_of_untrained_heads_are_the_image() -> None:
    outputs = {name: np.full_like(array, 1e4) for name, array in tensors_of(TASK, (1, 64, 96), 0).items()}
    (found,) = TASK.decode(outputs, (64, 96))
    assert np.unique(table(found), axis=0).tolist() == [[0, 0, 96, 64, 1]]


@pytest.mark.independent
@pytest.mark.parametrize("shape", [(1, 18, 2), (1, 17, 2, 2), (2, 18, 2, 2), (1, 21, 2, 2)], ids=str)
def test_a_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    outputs = tensors_of(TASK, (1, 64, 64), 0) | {"head16": np.zeros(shape, np.float32)}
    with pytest.raises(DetectionError, match="head16"):
        TASK.decode(outputs, (64, 64))
    del outputs["head16"]
    with pytest.raises(DetectionError, match="head16"):
        TASK.decode(outputs, (64, 64))


MODEL: Final = """
name = "faces"
inputs = [{ name = "data", shape = [1, 3, 64, 64], image = {} }]
[task]
kind = "yolo_detection"
score_threshold = 0.01
iou_threshold = 0.45
heads = [{ stride = 32, anchors = [[118, 157], [186, 248]], output = "a" }]
"""


@pytest.mark.independent
def test_a_description_names_the_heads() -> None:
    task = parse_model(MODEL.encode(), source="faces.toml").task
    assert isinstance(task, YoloDetection)
    assert task.heads[0].anchors == ((118, 157), (186, 248))
    assert task.outputs() == task.linear_outputs() == ("a",)


@pytest.mark.independent
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[118, 157], [186, 248]", "", r"anchors"),
        ("[118, 157]", "[118]", r"anchors"),
        ("[118, 157]", "[118, 0]", r"anchors"),
        ("[118, 157]", "[118.5, 157]", r"anchors"),
        ("stride = 32", "stride = 0", r"stride"),
        ('output = "a" }]', 'output = "a" }, { stride = 16, anchors = [[1, 1]], output = "a" }]', "same name"),
    ],
)
def test_a_wrong_head_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"faces.toml: task.*{message}"):
        parse_model(MODEL.replace(old, new).encode(), source="faces.toml")


@pytest.mark.independent
@pytest.mark.parametrize("task", [TASK, THREE], ids=["one class", "three classes"])
def test_every_fault_of_the_decoding_changes_the_detections(task: YoloDetection) -> None:
    size = (2, 64, 96)
    outputs = tensors_of(task, size, 3)
    right = task.decode(outputs, size[1:])
    faults = [fault for fault in task.faults() if fault.decode]
    assert {fault.name for fault in faults} >= {"objectness not multiplied", "anchors of another stride"}
    assert ("class off by one" in {fault.name for fault in faults}) is (task is THREE)
    for fault in faults:
        assert fault.decode is not None
        wrong = fault.decode(task, outputs, size[1:])
        assert any(
            len(ours) != len(theirs) or np.abs(rows_of(ours) - rows_of(theirs)).max() > 0.1
            for ours, theirs in zip(right, wrong, strict=True)
        ), fault.name


@pytest.mark.independent
@pytest.mark.parametrize("task", [TASK, THREE], ids=["one class", "three classes"])
def test_the_cards_code_finds_what_detection_finds(task: YoloDetection, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = tensors_of(task, (1, 64, 64), 4)
    usage = task.usage(inside=False)
    assert usage is not None
    scope: dict[str, Any] = {"np": np, "outputs": [outputs[name] for name in task.outputs()]}
    exec(usage[1], scope)  # noqa: S102  # the card's own code
    capsys.readouterr()
    ours = np.array(scope[f"{task.noun}s"])
    (expected,) = task.with_thresholds(0.5).decode(outputs, (64, 64))
    assert len(expected) > 2
    ours[:, :4] = np.clip(ours[:, :4], 0, 64)
    np.testing.assert_allclose(ours, rows_of(expected), atol=1e-4)


# --- inside the network -----------------------------------------------------------------------------------------------


@cache
def bare(size: tuple[int, int, int] | None, channels_last: bool = False) -> bytes:
    """The pass alone, on heads that are fed: for that size, or for any."""
    number, height, width = size or ("n", "h", "w")
    image: Dimensions = (number, height, width, 3) if channels_last else (number, 3, height, width)
    heads: dict[str, Dimensions] = {
        head.output: (number, 18, *((size[1] // head.stride, size[2] // head.stride) if size else ("", "")))
        for head in TASK.heads
    }
    model = OnnxModel("heads", (), {}, {"data": image, **heads}, heads)
    made = TASK.append_to(model, input_name="data", top_k=5000, keep_heads=False)
    with TemporaryDirectory() as folder:
        made.write(Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").read_bytes()


def found_by(runtime: str, model: bytes, fed: Mapping[str, npt.NDArray[Any]]) -> Tensors:
    if runtime == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of the image that a fixed size does not look at
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        answers = session.run(names, {item.name: fed[item.name] for item in session.get_inputs()})
        return dict(zip(names, answers, strict=True))
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled({port.any_name: fed[port.any_name] for port in compiled.inputs})
    return {name: np.array(value) for port, value in answer.items() for name in port.names}


@pytest.mark.independent
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("form", ["that size", "any size", "channels last"])
def test_the_pass_finds_what_detection_finds(form: str, runtime: str) -> None:
    size = (2, 96, 64)
    heads = tensors_of(TASK, size, 5)
    image = np.zeros((2, 96, 64, 3) if form == "channels last" else (2, 3, 96, 64), np.float32)
    model = bare(None if form == "any size" else size, form == "channels last")
    found = found_by(runtime, model, {"data": image, **heads})
    expected = TASK.decode(heads, size[1:])
    assert found["count"].tolist() == [len(boxes) for boxes in expected]
    assert min(found["count"]) > 20
    for ours, right in zip(TASK.decode_inside(found), expected, strict=True):
        np.testing.assert_allclose(table(ours), table(right), rtol=1e-5, atol=1e-3)
    assert not found["boxes"][0, len(expected[0]) :].any()


@pytest.mark.independent
def test_several_classes_are_not_decoded_inside() -> None:
    heads: dict[str, Dimensions] = {head.output: (1, 24, 2, 2) for head in THREE.heads}
    model = OnnxModel("heads", (), {}, {"data": (1, 3, 64, 64), **heads}, heads)
    with pytest.raises(UsageError, match="--postprocess"):
        THREE.append_to(model, input_name="data", top_k=5, keep_heads=False)


# --- MXNet's own decoding ---------------------------------------------------------------------------------------------

CUT: Final = tuple(f"yolov30_yolooutputv3{number}_conv0_fwd" for number in range(3))
KEPT_BY_MXNET: Final = 400  # before the suppression


@pytest.fixture(scope="module")
def face_detector(shared_data: Path) -> zoo.ZooNetwork:
    return next(item for item in zoo.read_zoo(shared_data / "zoo") if item.name == "mobilefacedet-v1-mxnet")


@pytest.mark.long
def test_detections_equal_those_of_the_real_networks_own_outputs(face_detector: zoo.ZooNetwork, mxnet: Any) -> None:
    """MobileFace's network ends in GluonCV's decoding and suppression; ours decodes the heads before it."""
    symbol = mxnet.sym.load(str(face_detector.symbol))
    arguments, _, auxiliaries = symbol.infer_shape(data=(1, 256, 256, 3))
    shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    shapes |= dict(zip(symbol.list_auxiliary_states(), auxiliaries, strict=True))
    del shapes["data"]
    values = zoo.seeded_parameters(face_detector.nodes, shapes)
    for number, anchors in enumerate(ANCHORS.values()):
        values[f"yolov30_yolooutputv3{number}_anchor_{number}"] = np.array(anchors, np.float32).reshape(1, 1, 3, 2)
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3)).astype(np.float32)
    heads = [symbol.get_internals()[f"{name}_output"] for name in CUT]
    executor = mxnet.sym.Group([symbol, *heads]).simple_bind(mxnet.cpu(), data=image.shape, grad_req="null")
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        array[:] = image if name == "data" else values[name]
    classes, scores, boxes, *tensors = (output.asnumpy()[0] for output in executor.forward(is_train=False))

    outputs = {head.output: tensor[None] for head, tensor in zip(TASK.heads, tensors, strict=True)}
    every = Detections.join(TASK.by_stride(outputs, 1 << 20)[0])  # GluonCV does not clip
    assert len(every) == 3 * (8 * 8 + 16 * 16 + 32 * 32)
    best = every.best_first()[:KEPT_BY_MXNET]
    found = TASK.with_thresholds(0.01).select(best)[: len(scores)]
    assert len(found) > 20
    rows = np.column_stack([boxes, scores])[scores[:, 0] > 0]
    assert not classes[scores > 0].any()
    np.testing.assert_allclose(table(found), rows, rtol=1e-5, atol=1e-3)
