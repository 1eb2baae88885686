from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detections import detections
from sshconvert.boxes import overlaps
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.network import read_symbol
from sshconvert.options import Options, Precision
from sshconvert.tasks.average_precision import average_precision
from sshconvert.tasks.results import Detections
from sshtool.demo import checkpoint as demo
from sshtool.demo.fitting import TRAINING_SEEDS, VALIDATION_SEEDS, FitSettings, Sample, fit, predict
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.onnxruntime import OnnxRuntime

MODEL = load_model("ssh-mxnet")
UNSEEN = range(50)
SCENE_SHA256 = "cfee94057398f884bc5318bc0a7abac9a3fd2b32bce54a3d0de40c7fd7deda14"


def test_the_demo_symbol_is_the_real_one_node_for_node(demo_checkpoint: Checkpoint, shared_data: Path) -> None:
    assert demo_checkpoint.graph == read_symbol(shared_data / "ssh-vgg16-symbol.json")


def test_the_demo_is_the_same_bytes_everywhere_and_known_by_its_hash(demo_checkpoint: Checkpoint) -> None:
    digest = hashlib.sha256(demo_checkpoint.params_path.read_bytes()).hexdigest()
    assert MODEL.demo is not None
    assert digest == MODEL.demo.params_sha256
    assert demo_checkpoint.weights == "demo"


def test_a_demo_with_one_changed_weight_is_no_longer_called_the_demo(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for path in (demo_checkpoint.symbol_path, demo_checkpoint.params_path):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / MODEL.checkpoint.params).open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x00\x00\x3f")
    assert open_checkpoint(tmp_path, MODEL).weights.startswith("params-sha256:")


def test_mxnet_loads_the_demo_with_the_same_values(demo_checkpoint: Checkpoint, mxnet: Any) -> None:
    arrays = mxnet.nd.load(str(demo_checkpoint.params_path))
    assert {name.removeprefix("arg:") for name in arrays} == set(demo_checkpoint.parameters)
    for name in ("conv1_1_weight", "conv5_3_weight", "rpn_cls_score_stride8_bias"):
        np.testing.assert_array_equal(arrays[f"arg:{name}"].asnumpy(), demo_checkpoint.parameters[name])


def test_the_scenes_are_the_same_pixels_everywhere() -> None:
    scene = draw_scene(0)
    assert scene.image.shape == (640, 640, 3)
    assert hashlib.sha256(scene.image.tobytes()).hexdigest() == SCENE_SHA256
    assert scene.faces.shape[1] == 4


def test_scenes_used_here_were_not_used_for_fitting() -> None:
    assert not set(UNSEEN) & (set(TRAINING_SEEDS) | set(VALIDATION_SEEDS))


@pytest.mark.parametrize("size", [(640, 640), (96, 160), (33, 47)], ids=str)
def test_faces_lie_inside_the_scene(size: tuple[int, int]) -> None:
    for seed in range(10):
        faces = draw_scene(seed, *size).faces
        assert (faces[:, :2] >= 0).all()
        assert (faces[:, 2] <= size[1] - 1).all()
        assert (faces[:, 3] <= size[0] - 1).all()


@pytest.mark.parametrize(
    "scenes",
    [pytest.param(UNSEEN[:2], id="2 scenes"), pytest.param(UNSEEN, id="50 scenes", marks=pytest.mark.long)],
)
def test_the_demo_finds_the_faces_of_scenes_that_the_fit_never_saw(
    demo_checkpoint: Checkpoint, tmp_path: Path, scenes: range
) -> None:
    artifact = convert(demo_checkpoint, tmp_path, Options(("onnx",), (Precision.FP32,)))[0]
    runtime = OnnxRuntime(artifact.path)
    drawn = [draw_scene(seed) for seed in scenes]
    found = [MODEL.task.decode(runtime.run(scene.image[None]), (640, 640))[0] for scene in drawn]
    truths = [scene.faces for scene in drawn]
    false = [
        int(((image.scores >= 0.5) & (overlaps(image.boxes, faces).max(axis=1, initial=0) < 0.5)).sum())
        for image, faces in zip(found, truths, strict=True)
    ]
    figure = average_precision(found, truths)
    print(f"AP@0.5 on {len(scenes)} unseen scenes: {figure:.4f}; confident false boxes: {sum(false)}")  # noqa: T201  # shown by -s
    assert figure >= 0.90
    assert sum(false) <= 5


def test_the_fit_learns_what_the_features_tell() -> None:
    """On features that carry the answer, the fitted heads find the faces: the mathematics, without the network."""
    random: Any = np.random.RandomState(0)
    faces = np.array([[192, 192, 255, 255], [448, 320, 511, 383]], np.float32)
    samples = []
    for _ in range(4):
        features = {
            stride: random.standard_normal(((640 // stride) ** 2, 6)).astype(np.float32) for stride in (32, 16, 8)
        }
        for x1, y1, x2, y2 in faces.tolist():
            centre = int((y1 + y2) / 2 / 16) * 40 + int((x1 + x2) / 2 / 16)
            for cell in (centre, centre + 1, centre + 40, centre + 41):
                features[16][cell, 0] += 40
        samples.append(Sample(faces, features))
    parameters = fit(MODEL, samples, FitSettings(score_penalty=1.0, margin=0.0))
    found = predict(MODEL, parameters, samples[0])
    assert overlaps(found.from_score(0.5).boxes, faces).max(axis=0).min() > 0.5


def test_the_body_depends_on_nothing_but_its_seed() -> None:
    first, second = demo.body(MODEL), demo.body(MODEL, seed=1)
    assert np.array_equal(first["conv1_1_weight"], demo.body(MODEL)["conv1_1_weight"])
    assert not np.array_equal(first["conv1_1_weight"], second["conv1_1_weight"])


def test_average_precision_of_cases_worked_out_by_hand() -> None:
    faces = np.array([[0, 0, 99, 99], [200, 200, 299, 299]], np.float32)
    perfect = detections(np.column_stack([faces, [0.9, 0.8]]))
    false = detections([400, 400, 499, 499, 0.95])
    assert average_precision([perfect], [faces]) == 1.0
    assert average_precision([perfect[:1]], [faces]) == 0.5
    assert average_precision([Detections.join([perfect, perfect])], [faces]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([Detections.join([false, perfect])], [faces]) == pytest.approx(2 / 3)
    assert average_precision([detections([])], [faces]) == 0.0
    assert average_precision([false], [np.zeros((0, 4), np.float32)]) == 0.0
