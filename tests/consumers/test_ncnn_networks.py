"""ncnn, as pnnx writes it and ncnn computes it: every verb takes it, and a wrong file is never written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from command_line import sshtool
from environments import SCRIPTS
from project import ROOT
from socket_guard import HAS_GUARD, guarded
from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.parity.pack import write_pack
from sshtool.parity.reference import LiveReference
from sshtool.runtimes.onnxruntime import OnnxRuntime
from tiny_checkpoint import node, write_tiny_checkpoint

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(not HAS_GUARD, reason="the guard of sockets is of the Linux kernel for x86_64 and aarch64"),
]

RUN: Final = "import runpy; sys.argv[0] = sys.argv.pop(1); runpy.run_path(sys.argv[0], run_name='__main__')"
PATHS: Final = os.pathsep.join(str(ROOT / folder) for folder in ("convert", "tools"))
TINY: Final = """\
name = "tiny"
inputs = [{ name = "data", shape = [1, 3, 64, 64], image = { mean = [120, 110, 100] } }]
[task]
kind = "anchor_detection"
score_threshold = 0.3
iou_threshold = 0.4
candidates_per_stride = 100
heads = [{ stride = 16, base_size = 16, scales = [1], scores = "prob", boxes = "box" }]
"""
SIZE: Final = 64
CHANNELS: Final = {"body": (4, 3, 3, 3), "score": (2, 4, 1, 1), "box": (4, 4, 1, 1)}


@pytest.fixture(scope="module")
def result(environment: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `ncnn_networks.py` gives in a process that the kernel kills when it or pnnx connects."""
    folder = tmp_path_factory.mktemp("ncnn")
    (folder / "tiny.toml").write_text(TINY)
    nodes = [node("null", "data"), node("null", "body_weight"), node("null", "body_bias")]
    nodes += [node("Convolution", "body", 0, 1, 2, kernel=(3, 3), pad=(1, 1), num_filter=4)]
    nodes += [node("Activation", "relu", 3, act_type="relu")]
    nodes += [node("Pooling", "pool", 4, kernel=(16, 16), stride=(16, 16), pool_type="max")]
    nodes += [node("null", "score_weight"), node("null", "score_bias")]
    nodes += [node("Convolution", "score", 5, 6, 7, kernel=(1, 1), num_filter=2)]
    nodes += [node("SoftmaxActivation", "prob", 8, mode="channel")]
    nodes += [node("null", "box_weight"), node("null", "box_bias")]
    nodes += [node("Convolution", "box", 5, 10, 11, kernel=(1, 1), num_filter=4)]
    write_tiny_checkpoint(folder, nodes, (9, 12), CHANNELS)
    (folder / "beyond").mkdir()
    nodes = [node("null", "data"), node("null", "dense_weight"), node("null", "dense_bias")]
    nodes += [node("FullyConnected", "dense", 0, 1, 2, num_hidden=8)]
    nodes += [node("topk", "largest", 3, k=3, ret_typ="value")]
    write_tiny_checkpoint(folder / "beyond", nodes, (4,), {"dense": (8, 12)})
    model = load_model(str(folder / "tiny.toml"))
    checkpoint = open_checkpoint(folder, model)
    (free,) = convert(checkpoint, folder / "free", Options(("onnx",), dynamic=Dynamic.ALL))
    live = LiveReference(OnnxRuntime(free.path), model)
    other = live.other_size()
    assert other is not None
    write_pack(folder / "reference.npz", checkpoint, "ONNX Runtime", [*live.answers(SIZE, SIZE), other])
    sshtool("demo-dataset", "-o", folder / "drawn", "--images", "2")
    variables = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": PATHS}
    arguments = (str(SCRIPTS / "ncnn_networks.py"), str(folder))
    process = guarded(RUN, *arguments, environment=variables, python=environment("ncnn"), connections=True)
    assert process.returncode == 0, process.stderr[-4000:]
    found: dict[str, Any] = json.loads(process.stdout)
    return found


@pytest.fixture(scope="module")
def detector(result: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = result["detector"]
    return found


def test_the_same_conversion_writes_the_same_three_files_for_each_precision_and_no_other(
    detector: dict[str, Any],
) -> None:
    assert detector["convert"]["code"] == 0, detector["convert"]
    first, second = detector["files"]
    assert first == second
    assert set(first) == {
        f"{precision}/tiny.ncnn.{part}" for precision in ("FP32", "FP16") for part in ("param", "bin", "json")
    }
    assert first["FP32/tiny.ncnn.bin"] != first["FP16/tiny.ncnn.bin"]
    assert first["FP32/tiny.ncnn.param"] == first["FP16/tiny.ncnn.param"]


def test_the_blobs_have_the_names_of_the_network_and_the_mean_is_inside(detector: dict[str, Any]) -> None:
    lines = [line.split() for line in detector["param"].splitlines()[2:]]
    assert ["Input", "data", "0", "1", "data", "0=64", "1=64", "2=3"] in lines
    reads = {blob for line in lines for blob in line[4 : 4 + int(line[2])]}
    writes = [blob for line in lines for blob in line[4 + int(line[2]) : 4 + int(line[2]) + int(line[3])]]
    assert [blob for blob in writes if blob not in reads] == ["prob", "box"]
    assert any(line[0] == "BinaryOp" and line[-1] == "0=1" for line in lines)  # minus the mean


def test_detections_are_those_of_the_onnx_file(detector: dict[str, Any]) -> None:
    ncnn, onnx, half = detector["detections"].values()
    assert len(ncnn) == len(onnx) == len(half) > 0
    for one, other in zip(ncnn, onnx, strict=True):
        assert one["box"] == pytest.approx(other["box"], abs=1e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_both_precisions_are_verified_measured_packaged_and_built_again(detector: dict[str, Any]) -> None:
    for verb in ("verify", "evaluate", "bench", "package"):
        assert detector[verb]["code"] == 0, detector[verb]
    artifacts = detector["verify"]["document"]["result"]["report"]["artifacts"]
    assert [item["label"] for item in artifacts] == ["ncnn FP32", "ncnn FP16"]
    assert all(item["matched"] and item["runtime"].startswith("ncnn 1.") for item in artifacts)
    assert [item["label"] for item in detector["bench"]["document"]["result"]["candidates"]] == [
        "ncnn FP32", "ncnn FP16",
    ]  # fmt: skip
    assert {"ncnn/model.ncnn.param", "ncnn/model.ncnn.bin", "ncnn/model.ncnn.json"} < set(detector["packaged"])
    assert "*.bin filter=lfs" in detector["attributes"]
    assert not {"*.json", "*.param"} & set(detector["attributes"].split())
    assert {"declarations", "answers", "rebuild"} <= set(detector["check"]["document"]["result"]["checks"])
    assert detector["card"] == [[1, 2, 4, 4], [1, 4, 4, 4]]


def test_a_strangers_file_is_refused_in_one_line(detector: dict[str, Any]) -> None:
    assert "its layer 'Softplus' is in no converted network" in detector["hostile"]["layer"]["error"]
    assert "its weights end beyond tiny.ncnn.bin" in detector["hostile"]["weights"]["error"]
    assert all(said["code"] == 1 for said in detector["hostile"].values())


def test_an_embedder_is_converted(result: dict[str, Any]) -> None:
    assert result["embedder"]["code"] == 0, result["embedder"]


def test_a_network_beyond_pnnx_and_one_that_it_spoils_are_refused_and_leave_no_file(result: dict[str, Any]) -> None:
    refused = result["refused"]
    assert refused["operator"]["code"] == 1
    assert "ncnn: pnnx cannot" in refused["operator"]["error"]
    assert "ncnn: pnnx's network computes another" in refused["spoiled"]
    assert refused["crashed"].startswith("ncnn: ncnn cannot compute pnnx's network (it ended with -11)")
    assert refused["left"] == refused["written"] == []
