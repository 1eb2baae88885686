"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sshconvert.openvino import MODEL_INFO, import_openvino
from sshtool.runtimes import Images, Outputs, Runtime, declared_contract, prepare


class OpenVino(Runtime):
    name = "OpenVINO"

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """Load an .xml (or .onnx) file; `threads` 0 leaves the number to the runtime.

        Computes in float32, whatever shorter type the CPU would offer, so that a difference comes from the model.
        """
        openvino = import_openvino()
        core = openvino.Core()
        config = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        model = core.read_model(str(path))
        self._contract = declared_contract(
            {
                key: model.get_rt_info([MODEL_INFO, key]).value
                for key in ("color_order", "mean_values")
                if model.has_rt_info([MODEL_INFO, key])
            }
        )
        self._compiled = core.compile_model(model, "CPU", config)
        self._version = str(openvino.__version__).split("-")[0]  # without the build number

    @property
    def version(self) -> str:
        return self._version

    def run(self, images: Images) -> Outputs:
        results = self._compiled([prepare(images, **self._contract)])
        return {port.any_name: np.array(value) for port, value in results.items()}
