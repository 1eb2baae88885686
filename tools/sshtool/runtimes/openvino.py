"""OpenVINO."""

from __future__ import annotations

import math
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from sshconvert.errors import ArtifactError, RuntimeUnavailableError
from sshconvert.models import Model
from sshconvert.openvino import MODEL_INFO, import_openvino
from sshtool.runtimes import Images, Outputs, Runtime, Settings, declared, prepare, reason
from sshtool.screening import check_ir, check_sizes, read_onnx

DECLARED = (
    "input_layout",
    "color_order",
    "mean_values",
    "precision",
    "weights",
    "postprocessing_inside",
    "score_threshold",
    "iou_threshold",
    "top_k",
)


class OpenVino(Runtime):
    key = "openvino"
    name = "OpenVINO"
    suffixes = (".xml", ".onnx")

    def __init__(self, path: Path, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        """Load an .xml (or .onnx) file. A device is one of OpenVINO's: CPU, GPU, …

        Computes in float32, whatever shorter type the device would offer, so that a difference comes from the model.
        """
        openvino = import_openvino()
        self._path = path
        self._core = openvino.Core()
        self.version = str(openvino.__version__).split("-")[0]  # without the build number
        self.settings = settings
        metadata = self._screen()
        model = self._read()
        shape = [size.get_length() if size.is_static else None for size in model.inputs[0].partial_shape]
        kind = model.inputs[0].element_type.get_type_name()
        kind = {"f32": "float32", "u8": "uint8"}.get(kind, kind)  # `to_dtype` does not know all types that there are
        self.declaration = declared(path, self._metadata(model) if metadata is None else metadata, shape, kind)
        self._compiled = self._compile(model)
        count = 1
        if settings.throughput:
            count = max(1, int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
            self.parallel = count + 1  # one is prepared while the others are computed
        self._requests = _requests(self._compiled, count)

    @classmethod
    def load(cls, path: Path, model: Model, settings: Settings) -> Runtime:
        return cls(path, settings)

    def run(self, images: Images) -> Outputs:
        return self._run(self._requests, images)

    def layers(self, images: Images) -> Outputs:
        model = self._read()
        known = {port.any_name for port in model.outputs}
        ports = [port for operation in model.get_ordered_ops() for port in operation.outputs() if port.get_names()]
        inner = [port for port in ports if port.get_node().get_type_name() not in ("Constant", "Parameter", "Result")]
        for port in inner:
            if not known & port.get_names():
                model.add_outputs(port)
        found = self._run(_requests(self._compile(model), 1), images)
        # A tensor has several names where operations were fused or left out.
        return {name: found[port.any_name] for port in inner for name in sorted(port.get_names())}

    def _read(self) -> Any:
        try:
            model = self._core.read_model(str(self._path))
            shapes = [port.partial_shape for operation in model.get_ops() for port in operation.outputs()]
            check_sizes(list(shape.to_shape()) for shape in shapes if shape.is_static)
        except (RuntimeError, ValueError) as error:  # a message may quote bytes that are no text
            raise ArtifactError(f"{self._path}: OpenVINO cannot read it ({reason(error)}); convert again") from None
        return model

    def _screen(self) -> dict[str, Any] | None:
        """Check the file. Returns an ONNX file's metadata: where OpenVINO keeps them depends on its version."""
        if self._path.suffix.lower() == ".onnx":
            return {entry.key: entry.value for entry in read_onnx(self._path).metadata_props}
        check_ir(self._path)
        return None

    def _metadata(self, model: Any) -> dict[str, Any]:
        known = [key for key in DECLARED if model.has_rt_info([MODEL_INFO, key])]
        return {key: model.get_rt_info([MODEL_INFO, key]).value for key in known}

    def _compile(self, model: Any) -> Any:
        device, threads = self.settings.device, self.settings.threads
        config = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        if self.settings.throughput:
            runs = math.ceil(self.settings.images / (self.declaration.input_shape[0] or 1))
            config |= {"PERFORMANCE_HINT": "THROUGHPUT"} | ({"PERFORMANCE_HINT_NUM_REQUESTS": runs} if runs else {})
        if device.split(".")[0].split(":")[0] not in (*self._core.available_devices, "AUTO", "HETERO"):
            there = ", ".join(self._core.available_devices)
            raise RuntimeUnavailableError(f"openvino: device {device} is not here; use {there}")
        try:
            return self._core.compile_model(model, device, config)
        except (RuntimeError, ValueError) as error:  # as above
            raise ArtifactError(f"{self._path}: OpenVINO cannot compile it ({reason(error)}); convert again") from None

    def _run(self, requests: SimpleQueue[Any], images: Images) -> Outputs:
        values = prepare(images, self.declaration)
        request = requests.get()
        try:
            results = request.infer([values], share_inputs=True)
            return {port.any_name: np.array(value) for port, value in results.items()}
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: OpenVINO cannot run it on {images.shape} ({reason(error)})") from None
        finally:
            requests.put(request)


def _requests(compiled: Any, count: int) -> SimpleQueue[Any]:
    """A request computes one thing at a time; who computes takes one out and puts it back."""
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests
