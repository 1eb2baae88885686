"""The input pass: a camera's frame goes in as it is, uint8 and channels last, and the network does the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from sshconvert.onnx.builder import Builder, renamed
from sshconvert.onnx.model import OnnxModel


def take_channels_last(model: OnnxModel, *, input_name: str) -> OnnxModel:
    """Change an input from [N, C, H, W] to [N, H, W, C]."""
    batch, channels, height, width = model.inputs[input_name]
    changed = _prepend(model, input_name, "nchw", "Transpose", perm=(0, 3, 1, 2))
    return replace(changed, inputs={**model.inputs, input_name: (batch, height, width, channels)})


def take_bytes(model: OnnxModel, *, input_name: str) -> OnnxModel:
    """Change an input from float32 to uint8, of the same values: 0-255."""
    changed = _prepend(model, input_name, "float32", "Cast", to=onnx.TensorProto.FLOAT)
    return replace(changed, types={**model.types, input_name: np.uint8})


def _prepend(model: OnnxModel, input_name: str, role: str, operator: str, **attributes: Any) -> OnnxModel:
    """Put one node between an input and the nodes that read it."""
    build = Builder.of(model, f"{input_name}_")
    names = {input_name: build.node(role, operator, [input_name], **attributes)}
    return replace(model, nodes=(*build.nodes, *(renamed(node, names) for node in model.nodes)))
