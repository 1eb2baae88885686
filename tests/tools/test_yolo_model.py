"""A detector with the heads of YOLOv3 through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert.models.registry import load_model
from sshconvert.mxnet.params import read_params, write_params
from sshtool.demo.dataset import write_dataset
from sshtool.demo.scenes import draw_scene
from sshtool.detector import Detector, DetectorOptions
from tiny_checkpoint import node, write_tiny_checkpoint

SIZE: Final = 64
MODEL: Final = f"""\
name = "yolo"
omz = {{ suppression = "image", least_score = 0.001, clipped = true, difficult_once = false }}
wider = {{ score_threshold = 0.01 }}
inputs = [{{ name = "data", shape = [1, 3, {SIZE}, {SIZE}], image = {{ mean = [120, 110, 100] }} }}]
[task]
kind = "yolo_detection"
score_threshold = 0.3
iou_threshold = 0.45
heads = [
    {{ stride = 32, anchors = [[40, 50], [60, 60]], output = "head32" }},
    {{ stride = 16, anchors = [[16, 20], [24, 30]], output = "head16" }},
    {{ stride = 8, anchors = [[6, 8], [10, 12]], output = "head8" }},
]
"""
CHANNELS: Final = 2 * 6
LABELS: Final = ["face", "hand", "foot", "eye", "ear", "nose", "mouth"]
PIXELS: Final = 60  # the spread of the image's values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body of three convolutions, and a head behind each, with weights from a seed."""
    folder = tmp_path_factory.mktemp("yolo")
    nodes: list[dict[str, Any]] = [node("null", "data")]

    def convolution(source: int, name: str, filters: int, kernel: int, stride: int = 1) -> int:
        nodes.extend([node("null", f"{name}_weight"), node("null", f"{name}_bias")])
        pad = kernel // 2
        attributes = {"kernel": (kernel, kernel), "pad": (pad, pad), "num_filter": filters}
        attributes["stride"] = (stride, stride)
        nodes.append(node("Convolution", name, source, len(nodes) - 2, len(nodes) - 1, **attributes))
        return len(nodes) - 1

    def active(source: int, name: str) -> int:
        nodes.append(node("LeakyReLU", f"{name}_relu", source, act_type="leaky", slope=0.1))
        return len(nodes) - 1

    def joined(fine: int, coarse: int) -> int:
        """Coarse features, enlarged and cut as in GluonCV, beside fine ones."""
        nodes.append(node("repeat", "wide", coarse, axis=-1, repeats=2))
        nodes.append(node("repeat", "large", len(nodes) - 1, axis=-2, repeats=2))
        nodes.append(node("slice_like", "fitting", len(nodes) - 1, fine, axes=(2, 3)))
        nodes.append(node("Concat", "joined", len(nodes) - 1, fine, dim=1, num_args=2))
        return len(nodes) - 1

    source = 0
    features: dict[int, int] = {}
    weights: dict[str, tuple[int, ...]] = {}
    for stride, step, inputs, kernel in ((8, 8, 3, 7), (16, 2, 8, 3), (32, 2, 8, 3)):
        name = f"body{stride}"
        source = features[stride] = active(convolution(source, name, 8, kernel, step), name)
        weights[name] = (8, inputs, kernel, kernel)
    features[8] = joined(features[8], features[16])
    weights |= {f"head{stride}": (CHANNELS, 16 if stride == 8 else 8, 1, 1) for stride in features}
    outputs = [convolution(features[stride], f"head{stride}", CHANNELS, 1) for stride in (32, 16, 8)]
    write_tiny_checkpoint(folder, nodes, outputs, weights)
    params = read_params(folder / "tiny-0000.params")
    random = np.random.default_rng(7)
    for name, array in params.items():
        spread = 1 / np.sqrt(array[0].size) / (PIXELS if name == "arg:body8_weight" else 1)
        params[name] = (spread * random.standard_normal(array.shape)).astype(np.float32)
    write_params(folder / "tiny-0000.params", params)
    (folder / "yolo.toml").write_text(MODEL)
    Image.fromarray(draw_scene(0, SIZE, SIZE).image[..., ::-1]).save(folder / "scene.png")
    return folder


@pytest.mark.long
def test_several_classes_are_named(folder: Path, tmp_path: Path) -> None:
    """The twelve channels of two anchors with one class, taken for one anchor with seven classes."""
    description = MODEL.replace('"yolo_detection"', f'"yolo_detection"\nlabels = {LABELS}')
    description = re.sub(r", \[\d+, \d+\]\]", "]", description)
    (folder / "seven.toml").write_text(description)
    place = ("--model", folder / "seven.toml", "-o", tmp_path)
    sshtool("convert", *place, "--checkpoint", folder, "--precision", "FP32", "--format", "onnx")
    line = json.loads(sshtool("detect", folder / "scene.png", *place, "--threshold", "0.4", "--json").stdout)
    model = load_model(str(folder / "seven.toml"))
    (expected,) = Detector(tmp_path / "yolo" / "FP32" / "yolo.onnx", model, DetectorOptions(threshold=0.4)).find(
        [draw_scene(0, SIZE, SIZE).image]
    )
    assert expected.class_ids is not None
    assert [item["label"] for item in line["detections"]] == [LABELS[number] for number in expected.class_ids]
    assert len({item["label"] for item in line["detections"]}) > 2
    refused = sshtool("convert", *place, "--checkpoint", folder, "--postprocess", code=2)
    assert "one class alone" in refused.stderr


@pytest.mark.long
def test_it_is_evaluated_by_its_own_rules(folder: Path, tmp_path: Path) -> None:
    place = ("--model", folder / "yolo.toml", "-o", tmp_path)
    sshtool("convert", *place, "--checkpoint", folder, "--precision", "FP32", "--format", "onnx")
    dataset = tmp_path / "wider"
    write_dataset(dataset, images=4, seed=3)
    options = ("--dataset", dataset, "--json")
    both = ("--protocol", "both", "--resize", "stretch", "--shard", "1/1")
    done = sshtool("evaluate", *place, *options, *both)
    omz, wider = json.loads(done.stdout)["result"]["artifacts"][0]["protocols"]
    rules = "suppression image, least_score 0.001, clipped true, difficult_once false"
    assert omz["input"] == f"stretched to {SIZE}x{SIZE}; {rules}"
    assert min(omz["predictions"], wider["predictions"]) > 20

    journals = tmp_path / "yolo" / "evaluation"
    merged = sshtool("evaluate", *place, *options, "--protocol", "both", "--merge", journals)
    assert json.loads(merged.stdout)["result"]["artifacts"][0]["protocols"] == [omz, wider]
    (folder / "other.toml").write_text(MODEL.replace("least_score = 0.001", "least_score = 0.2"))
    other = ("--model", folder / "other.toml", "-o", tmp_path)
    refused = sshtool("evaluate", *other, *options, "--protocol", "both", "--merge", journals, code=1)
    assert rules in json.loads(refused.stdout)["error"]["message"]


# The faults of the task that show in a file with the heads as outputs.
TASK_FAULTS: Final = {
    "two outputs swapped",
    "x and y exchanged",
    "w and h exchanged",
    "anchors exchanged",
    "anchors in the reverse order",
    "anchors of another stride",
    "stride twice too large",
    "cells half a cell too far",
    "cells numbered from 1",
    "objectness not multiplied",
    "class not multiplied",
    "NMS at the wrong threshold",
    "score threshold too high",
    "score threshold too low",
    "boxes clipped to W + 1 instead of W",
    "boxes not clipped",
    "first image's faces for the whole batch",
}
INSIDE_FAULTS: Final = {"scores halved", "count one too high", "a box behind the last face"}


@pytest.mark.long
@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize(
    "options",
    [(), ("--postprocess", "--top-k", "200"), ("--postprocess", "--batch", "2")],
    ids=["heads", "inside", "inside for two images"],
)
def test_it_is_converted_verified_packaged_and_checked(folder: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    place = ("--model", folder / "yolo.toml", "-o", tmp_path)
    sshtool("convert", *place, "--checkpoint", folder, "--precision", "FP32", *options)
    done = sshtool("verify", *place, "--checkpoint", folder, "--self-test", "--json")
    result = json.loads(done.stdout)["result"]
    faults = result["self_test"]["faults"]
    assert {fault["fault"] for fault in faults if fault["verdict"] == "missed"} == set()
    caught = {fault["fault"] for fault in faults if fault["verdict"] == "caught"}
    assert caught >= (INSIDE_FAULTS if options else TASK_FAULTS)
    assert all(artifact["matched"] > 300 for artifact in result["report"]["artifacts"])

    path = tmp_path / "yolo" / "FP32" / "yolo.onnx"
    found = sshtool("detect", folder / "scene.png", *place, "--artifact", path, "--threshold", "0.4", "--json")
    assert len(json.loads(found.stdout)["detections"]) > 3

    sshtool("reference", *place, "--checkpoint", folder)
    sshtool("package", *place)
    package = tmp_path / "releases" / "yolo-flat"
    card = (package / "README.md").read_text()
    assert "corner pixels" not in card
    assert "more than 0.45" in card
    checked = json.loads(sshtool("check", package, "--rebuild", folder, "--json").stdout)["result"]
    assert checked["verdict"] == "passed"
