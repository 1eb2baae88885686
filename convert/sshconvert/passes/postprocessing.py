"""The post-processing pass: the network computes the results of the task."""

from __future__ import annotations

from dataclasses import dataclass

from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Postprocessing
from sshconvert.passes.base import Pass
from sshconvert.tasks.base import Task


@dataclass(frozen=True)
class AppendPostprocessing(Pass):
    """Decode the outputs into the results of the task inside the network.

    Needs: the outputs of the task, and the input as [N, C, H, W].

    Changes: the outputs. With `options.keep_heads`, the original outputs follow the results.

    Keeps: the input.
    """

    input_name: str
    task: Task
    options: Postprocessing

    def apply(self, model: OnnxModel) -> OnnxModel:
        options = self.options
        return self.task.append_to(
            model, input_name=self.input_name, top_k=options.top_k, keep_heads=options.keep_heads
        )
