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
    """Change an input from [N, C, H, W] to [N, H, W, C]. Keeps its values and the outputs.

    If a network of channels last reads the input, the Transpose of `TakeChannelsFirst` falls away.
    """

    input_name: str

    def apply(self, model: OnnxModel) -> OnnxModel:
        batch, channels, height, width = model.inputs[self.input_name]
        first = [node for node in model.consumers(self.input_name) if node.name == f"{self.input_name}_nhwc"]
        if len(list(model.consumers(self.input_name))) == len(first) == 1:
            names = {first[0].output[0]: self.input_name}
            changed = replace(model, nodes=tuple(renamed(node, names) for node in model.nodes if node is not first[0]))
        else:
            changed = _prepend(model, self.input_name, "nchw", "Transpose", perm=(0, 3, 1, 2))
        return replace(changed, inputs={**model.inputs, self.input_name: (batch, height, width, channels)})


@dataclass(frozen=True)
class TakeChannelsFirst(Pass):
    """Change an input from [N, H, W, C] to [N, C, H, W]. Keeps its values and the outputs."""

    input_name: str

    def apply(self, model: OnnxModel) -> OnnxModel:
        batch, height, width, channels = model.inputs[self.input_name]
        changed = _prepend(model, self.input_name, "nhwc", "Transpose", perm=(0, 2, 3, 1))
        return replace(changed, inputs={**model.inputs, self.input_name: (batch, channels, height, width)})


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
