"""The backend `onnxruntime` as a Python-based one: Triton runs this file for each model of that backend."""

import os
import site
from pathlib import Path
from typing import Any

site.addsitedir(os.environ["BACKEND_PACKAGES"])  # the server's interpreter ignores PYTHONPATH

import numpy as np  # found by the line above
import onnxruntime  # found by the line above
import triton_python_backend_utils as triton  # found by the line above


class TritonPythonModel:
    def initialize(self, arguments: dict[str, str]) -> None:
        path = Path(arguments["model_repository"]) / arguments["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Compute all requests that the server gives at once as one batch, as Triton's own backend does."""
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
        names = [output.name for output in self.session.get_outputs()]
        parts = zip(*(np.split(answer, ends) for answer in self.session.run(names, batch)), strict=True)
        return [triton.InferenceResponse([*map(triton.Tensor, names, part)]) for part in parts]
