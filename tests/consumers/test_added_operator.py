"""An operator from outside the package, in one file, with two outputs: `convert` and `verify` take its network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from command_line import sshtool
from dialects import written
from extensions import install
from one_node import graph_of, node, variable
from sshconvert.arrays import Array
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.mxnet.params import write_params

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

TINY: Final = """\
name = "tiny"
inputs = [{ name = "data", shape = [1, 3, 64, 64], image = { mean = [120, 110, 100] } }]
[task]
kind = "anchor_detection"
score_threshold = 0.3
iou_threshold = 0.4
candidates_per_stride = 100
heads = [{ stride = 16, base_size = 16, scales = [1], scores = "prob", boxes = "halves_output1" }]
"""

# The answers of the network without the operator are the reference of the network with it.
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

folder = Path(sys.argv[1])
model = load_model(str(folder / "tiny.toml"))
(plain,) = convert(open_checkpoint(folder / "plain", model), folder / "plain", Options(("onnx",), dynamic=Dynamic.ALL))
live = LiveReference(OnnxRuntime(plain.path), model)
answers = [*live.answers(64, 64), live.other_size()]
write_pack(folder / "pack.npz", open_checkpoint(folder / "halved", model), "ONNX Runtime", answers)
"""


def convolution(name: str, data: int, first: int, filters: int, size: int) -> list[Node]:
    """A convolution whose nodes are numbered from `first`; the last is the operator."""
    attributes = {"kernel": f"({size}, {size})", "pad": f"({size // 2}, {size // 2})", "num_filter": str(filters)}
    parameters = [variable(f"{name}_weight"), variable(f"{name}_bias")]
    return [*parameters, node("Convolution", name, (data, first, first + 1), **attributes)]


def body(*convolutions: Node) -> list[Node]:
    pooling = node("Pooling", "pool", (3,), kernel="(16, 16)", stride="(16, 16)", pool_type="avg")
    return [variable("data"), *convolution("body", 0, 1, 4, 3), pooling, *convolutions]


def halved() -> Graph:
    """One convolution, whose outputs the operator cuts in two."""
    nodes = body(*convolution("both", 4, 5, 8, 3), node("_npi_hsplit", "halves", (7,), indices="()", sections="2"))
    nodes += [*convolution("score", 8, 9, 2, 1), node("SoftmaxActivation", "prob", (11,), mode="channel")]
    return Graph(tuple(nodes), (Entry(12), Entry(8, 1)), "halved")


def plain() -> Graph:
    """A convolution for each half."""
    nodes = body(*convolution("half", 4, 5, 4, 3), *convolution("halves_output1", 4, 8, 4, 3))
    nodes += [*convolution("score", 7, 11, 2, 1), node("SoftmaxActivation", "prob", (13,), mode="channel")]
    return graph_of(*nodes, outputs=(14, 10))


def parameters() -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes: dict[str, Shape] = {"body": (4, 3, 3, 3), "both": (8, 4, 3, 3), "score": (2, 4, 1, 1)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}_weight"] = (0.02 * random.standard_normal(shape)).astype(np.float32)
        arrays[f"{name}_bias"] = (0.02 * random.standard_normal(shape[0])).astype(np.float32)
    return arrays


def write(folder: Path, graph: Graph, arrays: dict[str, Array]) -> None:
    folder.mkdir()
    (folder / "tiny-symbol.json").write_text(json.dumps(written(graph)))
    write_params(folder / "tiny-0000.params", {f"arg:{name}": array for name, array in arrays.items()})


def test_an_operator_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    arrays = parameters()
    write(tmp_path / "halved", halved(), arrays)
    halves = {
        f"{name}_{role}": array
        for role in ("weight", "bias")
        for name, array in zip(("half", "halves_output1"), np.split(arrays.pop(f"both_{role}"), 2), strict=True)
    }
    write(tmp_path / "plain", plain(), arrays | halves)
    place = ("--model", tmp_path / "tiny.toml", "-o", tmp_path / "out", "--checkpoint", tmp_path / "halved")

    refused = sshtool("convert", *place, code=1)
    assert "halves: operator _npi_hsplit" in refused.stderr

    install(tmp_path / "added", ["hsplit_operator"])
    paths = [str(tmp_path / "added"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    sshtool("convert", *place)
    script = tmp_path / "write.py"
    script.write_text(REFERENCE)
    subprocess.run([sys.executable, script, tmp_path], check=True)

    # MXNet knows the operator, so where MXNet is, it is a reference too.
    references: list[tuple[str, ...]] = [("--reference", str(tmp_path / "pack.npz")), ()]
    for reference in references if find_spec("mxnet") else references[:1]:
        sshtool("verify", *place, *reference)
        report = json.loads((tmp_path / "out" / "tiny" / "verification.json").read_bytes())["result"]["report"]
        assert [item["label"] for item in report["artifacts"]] == ["onnx FP32", "openvino FP32"]
        assert all(item["matched"] for item in report["artifacts"])
        assert report["outputs"] == ["prob", "halves_output1"]
