"""The post-processing pass: the outputs are the results of the task."""

from __future__ import annotations

from dataclasses import dataclass

from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Faces
from sshconvert.passes.base import Pass
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.postprocessing import append_postprocessing


@dataclass(frozen=True)
class AppendPostprocessing(Pass):
    """Decode the task's outputs inside.

    Needs: the outputs of the task, and the input as [N, C, H, W].

    Changes: the outputs, which `faces.keep_heads` keeps behind the results.

    Keeps: the input.
    """

    input_name: str
    task: AnchorDetection
    faces: Faces

    def apply(self, model: OnnxModel) -> OnnxModel:
        return append_postprocessing(
            model,
            input_name=self.input_name,
            rules=self.task,
            top_k=self.faces.top_k,
            keep_heads=self.faces.keep_heads,
        )
