"""A model of a few kilobytes with the six outputs of the real one, as ONNX and IR."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detections import anchor_task
from sshconvert.ir import IntermediateRepresentation
from sshconvert.models.spec import ModelSpec

SIZE: Final = 64
METADATA: Final = {"weights": "demo", "color_order": "BGR", "mean_values": "0 0 0", "precision": "FP32"}


def small_onnx(model: ModelSpec, scale: float = 1.0, *, free: bool = False) -> onnx.ModelProto:
    """One convolution, and for each stride a pooling and the two heads, with random weights of that `scale`.

    If it is `free`, it takes any number of images of any size.
    """
    random: Any = np.random.RandomState(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    outputs: list[onnx.ValueInfoProto] = []

    def convolution(source: str, name: str, shape: tuple[int, ...], padding: int) -> None:
        for letter, size in (("w", shape), ("b", shape[:1])):
            stored.append(numpy_helper.from_array((scale * random.randn(*size)).astype(np.float32), f"{letter}_{name}"))
        nodes.append(helper.make_node("Conv", [source, f"w_{name}", f"b_{name}"], [name], pads=[padding] * 4))

    convolution("data", "body", (4, 3, 3, 3), 1)
    for head in anchor_task(model).heads:
        cell = [head.stride] * 2
        nodes.append(helper.make_node("MaxPool", ["body"], [f"pool{head.stride}"], kernel_shape=cell, strides=cell))
        convolution(f"pool{head.stride}", f"{head.scores}_raw", (4, 4, 1, 1), 0)
        nodes.append(helper.make_node("Softmax", [f"{head.scores}_raw"], [head.scores], axis=1))
        convolution(f"pool{head.stride}", head.boxes, (8, 4, 1, 1), 0)
        for name, channels in ((head.scores, 4), (head.boxes, 8)):
            cells = [f"{side}{head.stride}" if free else SIZE // head.stride for side in ("h", "w")]
            shape: list[str | int | None] = ["n" if free else 1, channels, *cells]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    taken: list[str | int | None] = ["n", 3, "h", "w"] if free else [1, 3, SIZE, SIZE]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, taken)]
    graph = helper.make_graph(nodes, "small", inputs, outputs, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(made, METADATA)
    return made


def write_small_models(folder: Path, model: ModelSpec, scale: float = 1.0) -> None:
    """Write small.onnx, small.xml and small.bin."""
    onnx.save(small_onnx(model, scale), folder / "small.onnx")
    ir = IntermediateRepresentation(folder / "small.onnx", name="small")
    ir.save(folder / "small.xml", {**METADATA, "precision": "FP32"})
