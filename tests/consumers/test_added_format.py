"""A format and a runtime from outside the package, one file each: every verb takes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from command_line import sshtool
from extensions import install
from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.demo.scenes import draw_scene
from sshtool.parity.pack import write_pack
from sshtool.parity.reference import LiveReference
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.workspace import Workspace
from tiny_checkpoint import node, write_tiny_checkpoint

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

SIZE: Final = 64
STRIDE: Final = 16
TINY: Final = f"""\
name = "tiny"
inputs = [{{ name = "data", shape = [1, 3, {SIZE}, {SIZE}], image = {{ mean = [120, 110, 100] }} }}]
[task]
kind = "anchor_detection"
score_threshold = 0.3
iou_threshold = 0.4
candidates_per_stride = 100
heads = [{{ stride = {STRIDE}, base_size = 16, scales = [1], scores = "prob", boxes = "box" }}]
"""
CHANNELS: Final = {"body": (4, 3, 3, 3), "score": (2, 4, 1, 1), "box": (4, 4, 1, 1)}


def write_detector(folder: Path) -> None:
    """One convolution, one pooling, and a head of one anchor."""
    nodes = [node("null", "data"), node("null", "body_weight"), node("null", "body_bias")]
    nodes += [node("Convolution", "body", 0, 1, 2, kernel=(3, 3), pad=(1, 1), num_filter=4)]
    nodes += [node("Activation", "relu", 3, act_type="relu")]
    nodes += [node("Pooling", "pool", 4, kernel=(STRIDE, STRIDE), stride=(STRIDE, STRIDE), pool_type="max")]
    nodes += [node("null", "score_weight"), node("null", "score_bias")]
    nodes += [node("Convolution", "score", 5, 6, 7, kernel=(1, 1), num_filter=2)]
    nodes += [node("SoftmaxActivation", "prob", 8, mode="channel")]
    nodes += [node("null", "box_weight"), node("null", "box_bias")]
    nodes += [node("Convolution", "box", 5, 10, 11, kernel=(1, 1), num_filter=4)]
    write_tiny_checkpoint(folder, nodes, (9, 12), CHANNELS)


def test_a_format_and_its_runtime_are_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "added", ["npz_format", "numpy_runtime"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "added"), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "tiny.toml").write_text(TINY)
    write_detector(tmp_path)
    model = load_model(str(tmp_path / "tiny.toml"))
    checkpoint = open_checkpoint(tmp_path, model)
    place = ("--model", tmp_path / "tiny.toml", "-o", tmp_path / "out")

    sshtool("convert", *place, "--checkpoint", tmp_path, "--format", "npz,onnx")
    artifact = tmp_path / "out" / "tiny" / "FP32" / "tiny.npz"
    (free,) = convert(checkpoint, tmp_path / "free", Options(("onnx",), dynamic=Dynamic.ALL))
    live = LiveReference(OnnxRuntime(free.path), model)
    other = live.other_size()
    assert other is not None
    pack = Workspace(model, tmp_path / "out").reference_pack
    write_pack(pack, checkpoint, "ONNX Runtime", [*live.answers(SIZE, SIZE), other])

    described = json.loads(sshtool("info", artifact, "--json").stdout)["result"]
    assert (described["kind"], described["model"]) == ("artifact", "tiny")

    sshtool("verify", *place, "--checkpoint", tmp_path, "--reference", pack)
    verified = json.loads((tmp_path / "out" / "tiny" / "verification.json").read_bytes())["result"]["report"]
    assert [item["label"] for item in verified["artifacts"]] == ["onnx FP32", "npz FP32"]
    assert verified["artifacts"][1]["runtime"].startswith("NumPy ")
    assert all(item["matched"] and "batch-of-2" not in item["skipped"] for item in verified["artifacts"])

    Image.fromarray(draw_scene(0, SIZE, SIZE).image[..., ::-1]).save(tmp_path / "scene.png")
    found = [
        json.loads(sshtool("detect", tmp_path / "scene.png", *place, "--artifact", path, "--json").stdout)["detections"]
        for path in (artifact, artifact.with_suffix(".onnx"))
    ]
    assert len(found[0]) == len(found[1]) > 0

    sshtool("demo-dataset", "-o", tmp_path / "out", "--images", "2")
    given = ("--artifact", artifact, "--runtime", "numpy", "--json")
    evaluated = sshtool("evaluate", *place, *given, "--dataset", tmp_path / "out" / "datasets" / "wider-demo")
    assert '"npz FP32 (numpy)"' in evaluated.stdout

    options = ("--runs", "1", "--rounds", "1", "--mode", "latency", "--runtime", "numpy", "--json")
    benched = json.loads(sshtool("bench", *place, "--artifact", artifact, *options).stdout)["result"]
    assert [item["label"] for item in benched["candidates"]] == ["npz FP32 (numpy)"]

    sshtool("package", *place, "--artifact", artifact)
    package = tmp_path / "out" / "releases" / "tiny-flat"
    assert (package / "FP32" / "tiny.npz").read_bytes() == artifact.read_bytes()
    checked = json.loads(sshtool("check", package, "--rebuild", tmp_path, "--json").stdout)["result"]
    assert checked["verdict"] == "passed"
    assert {"declarations", "answers", "rebuild"} <= set(checked["checks"])
