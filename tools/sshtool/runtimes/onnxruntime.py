"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

from sshconvert.errors import RuntimeUnavailableError
from sshtool.runtimes import Images, Outputs, Runtime, declared_contract, prepare


class OnnxRuntime(Runtime):
    name = "ONNX Runtime"

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """Load an .onnx file; `threads` 0 leaves the number to the runtime."""
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"onnxruntime: cannot be imported ({error}); pip install 'sshtool[runtime]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._contract = declared_contract(self._session.get_modelmeta().custom_metadata_map)
        self._version = str(onnxruntime.__version__)

    @property
    def version(self) -> str:
        return self._version

    def run(self, images: Images) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        values = self._session.run(names, {self._input: prepare(images, **self._contract)})
        return dict(zip(names, values, strict=True))
