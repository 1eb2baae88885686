"""A task from outside the package, in one file: every verb takes its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from command_line import sshtool
from extensions import install
from sshtool.demo.scenes import draw_scene
from tiny_checkpoint import node, write_tiny_checkpoint

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

SIZE: Final = 64
TINY: Final = f"""\
name = "tiny"
inputs = [{{ name = "data", shape = [1, 3, {SIZE}, {SIZE}], image = {{ mean = [120, 110, 100] }} }}]
task = {{ kind = "brightness", scores = "score" }}
"""

REFERENCE: Final = """\
import sys
from pathlib import Path

from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.parity.pack import write_pack
from sshtool.parity.reference import LiveReference
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.workspace import Workspace

folder = Path(sys.argv[1])
model = load_model(str(folder / "tiny.toml"))
checkpoint = open_checkpoint(folder, model)
(free,) = convert(checkpoint, folder / "free", Options(("onnx",), dynamic=Dynamic.ALL))
live = LiveReference(OnnxRuntime(free.path), model)
pack = Workspace(model, folder / "out").reference_pack
write_pack(pack, checkpoint, "ONNX Runtime", [*live.answers(64, 64), live.other_size()])
"""


def write_scorer(folder: Path) -> None:
    """One convolution, one pooling, and two scores of each cell."""
    nodes = [node("null", "data"), node("null", "body_weight"), node("null", "body_bias")]
    nodes += [node("Convolution", "body", 0, 1, 2, kernel=(3, 3), pad=(1, 1), num_filter=4)]
    nodes += [node("Activation", "relu", 3, act_type="relu")]
    nodes += [node("Pooling", "pool", 4, kernel=(16, 16), stride=(16, 16), pool_type="max")]
    nodes += [node("null", "score_weight"), node("null", "score_bias")]
    nodes += [node("Convolution", "score", 5, 6, 7, kernel=(1, 1), num_filter=2)]
    write_tiny_checkpoint(folder, nodes, (8,), {"body": (4, 3, 3, 3), "score": (2, 4, 1, 1)})


def test_a_task_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "added", ["brightness_task"])
    paths = [str(tmp_path / "added"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    (tmp_path / "tiny.toml").write_text(TINY)
    write_scorer(tmp_path)
    place = ("--model", tmp_path / "tiny.toml", "-o", tmp_path / "out")

    sshtool("convert", *place, "--checkpoint", tmp_path, "--format", "onnx")
    refused = sshtool("convert", *place, "--checkpoint", tmp_path, "--postprocess", code=2)
    assert "brightness" in refused.stderr
    folder = tmp_path / "out" / "tiny" / "FP32"

    # The registry is this process's own, so the reference is written in another.
    script = tmp_path / "write.py"
    script.write_text(REFERENCE)
    subprocess.run([sys.executable, script, tmp_path], check=True)
    pack = tmp_path / "out" / "tiny" / "tiny-reference.npz"
    pages = ("--html", tmp_path / "a.html", "--junit", tmp_path / "a.xml", "--markdown", tmp_path / "a.md")
    done = sshtool("verify", *place, "--checkpoint", tmp_path, "--reference", pack, *pages, "--self-test", "--json")
    result = json.loads(done.stdout)["result"]
    assert [item["label"] for item in result["report"]["artifacts"]] == ["onnx FP32"]
    assert {item["verdict"] for item in result["self_test"]["faults"]} >= {"caught"}
    assert 'name="detections"' not in (tmp_path / "a.xml").read_text()

    Image.fromarray(draw_scene(0, SIZE, SIZE).image[..., ::-1]).save(tmp_path / "scene.png")
    nothing = sshtool("detect", tmp_path / "scene.png", *place, code=2)
    assert nothing.stderr.count("\n") == 1
    assert "detects nothing" in nothing.stderr

    options = ("--runs", "1", "--rounds", "1", "--mode", "latency", "--json")
    benched = json.loads(sshtool("bench", *place, "--artifact", folder / "tiny.onnx", *options).stdout)["result"]
    assert [item["label"] for item in benched["candidates"]] == ["onnx FP32"]

    sshtool("package", *place)
    package = tmp_path / "out" / "releases" / "tiny-flat"
    card = (package / "README.md").read_text()
    assert "float32 [1, 2, 4, 4]: dark and bright" in card
    assert "From the scores to a word" in card
    checked = json.loads(sshtool("check", package, "--rebuild", tmp_path, "--json").stdout)["result"]
    assert checked["verdict"] == "passed"
    assert {"declarations", "answers", "rebuild"} <= set(checked["checks"])
