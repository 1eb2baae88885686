"""The passes of the input: the network takes a camera's frame, uint8 with the channels last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from sshconvert.onnx.builder import Builder, renamed
from sshconvert.onnx.model import OnnxModel
from sshconvert.passes.base import Pass


@dataclass(frozen=True)
class TakeChannelsLast(Pass):
    """Change an input from [N, C, H, W] to [N, H, W, C]. Keeps its values and the outputs."""

    input_name: str

    def apply(self, model: OnnxModel) -> OnnxModel:
        batch, channels, height, width = model.inputs[self.input_name]
        changed = _prepend(model, self.input_name, "nchw", "Transpose", perm=(0, 3, 1, 2))
        return replace(changed, inputs={**model.inputs, self.input_name: (batch, height, width, channels)})


@dataclass(frozen=True)
class TakeBytes(Pass):
    """Change an input from float32 to uint8. Keeps its values, 0-255, and the outputs."""

    input_name: str

    def apply(self, model: OnnxModel) -> OnnxModel:
        changed = _prepend(model, self.input_name, "float32", "Cast", to=onnx.TensorProto.FLOAT)
        return replace(changed, types={**model.types, self.input_name: np.uint8})


def _prepend(model: OnnxModel, input_name: str, role: str, operator: str, **attributes: Any) -> OnnxModel:
    """Put one node between an input and the nodes that read it."""
    build = Builder.of(model, f"{input_name}_")
    names = {input_name: build.node(role, operator, [input_name], **attributes)}
    return replace(model, nodes=(*build.nodes, *(renamed(node, names) for node in model.nodes)))
