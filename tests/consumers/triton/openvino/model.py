"""The backend `openvino` as a Python-based one: Triton runs this file for each model of that backend."""

import os
import site
from pathlib import Path
from typing import Any

site.addsitedir(os.environ["BACKEND_PACKAGES"])  # the server's interpreter ignores PYTHONPATH

import openvino  # found by the line above
import triton_python_backend_utils as triton  # found by the line above


class TritonPythonModel:
    def initialize(self, arguments: dict[str, str]) -> None:
        path = Path(arguments["model_repository"]) / arguments["model_version"] / "model.xml"
        self.compiled = openvino.Core().compile_model(path, "CPU")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Compute one request after another, as Triton's own backend does with max_batch_size 0."""
        answers = []
        for request in requests:
            result = self.compiled({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
            tensors = [triton.Tensor(port.any_name, result[port]) for port in self.compiled.outputs]
            answers.append(triton.InferenceResponse(tensors))
        return answers
