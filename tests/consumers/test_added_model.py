"""A model from outside the package, in one file of ten lines: the one of the guide, and every verb takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import sshtool
from guides import BLOCKS, LIBRARY
from tiny_checkpoint import node, write_tiny_checkpoint

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

SIZE = "640, 640"  # the guide's; a smaller one shows as much


def write_retinaface(folder: Path) -> None:
    """One convolution, and for each of two strides a pooling with a head of scores and a head of boxes."""
    nodes = [node("null", "data"), node("null", "body_weight"), node("null", "body_bias")]
    nodes += [node("Convolution", "body", 0, 1, 2, kernel=(3, 3), pad=(1, 1), num_filter=4)]
    outputs, weights = [], {"body": (4, 3, 3, 3)}
    for stride in (32, 16):
        window = {"kernel": (stride, stride), "stride": (stride, stride), "pool_type": "max"}
        nodes += [node("Pooling", f"pool{stride}", 3, **window)]
        pool = len(nodes) - 1
        for name, channels in (("face_rpn_cls_score", 4), ("face_rpn_bbox_pred", 8)):
            layer = f"{name}_stride{stride}"
            nodes += [node("null", f"{layer}_weight"), node("null", f"{layer}_bias")]
            place = len(nodes)
            nodes += [node("Convolution", layer, pool, place - 2, place - 1, kernel=(1, 1), num_filter=channels)]
            weights[layer] = (channels, 4, 1, 1)
            if channels == 4:
                shape = {"shape": (0, 2, -1, 0)}
                nodes += [node("Reshape", f"{layer}_reshape", place, **shape)]
                nodes += [node("SoftmaxActivation", f"{layer}_prob", place + 1, mode="channel")]
                nodes += [node("Reshape", f"face_rpn_cls_prob_reshape_stride{stride}", place + 2, shape=(0, 4, -1, 0))]
            outputs.append(len(nodes) - 1)
    write_tiny_checkpoint(folder, nodes, outputs, weights)


def test_a_model_is_a_file(tmp_path: Path) -> None:
    description = BLOCKS[f"{LIBRARY}#your-own-model"].text
    assert len(description.splitlines()) == 10
    assert SIZE in description
    (tmp_path / "mine.toml").write_text(description.replace(SIZE, "64, 64"))
    (tmp_path / "checkpoint").mkdir()
    write_retinaface(tmp_path / "checkpoint")
    chosen = ("--model", tmp_path / "mine.toml", "--checkpoint", tmp_path / "checkpoint")
    place = ("-o", tmp_path / "out")

    described = json.loads(sshtool("info", *chosen, "--json").stdout)["result"]
    assert described["inputs"] == {"data": [1, 3, 64, 64]}
    sshtool("convert", *chosen, *place, "--format", "onnx")
    verified = json.loads(sshtool("verify", *chosen, *place, "--json").stdout)["result"]
    assert [item["matched"] for item in verified["report"]["artifacts"]] == [
        verified["report"]["artifacts"][0]["matched"]
    ]
    sshtool("run", *chosen, *place, "--format", "onnx", "--precision", "FP32")
    package = tmp_path / "out" / "releases" / "retinaface-16and32-flat"
    assert (package / "model.toml").is_file()
    sshtool("check", package, "--rebuild", tmp_path / "checkpoint")
