"""OpenVINO."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Tensor, declaration_of
from sshconvert.errors import ArtifactError, RuntimeUnavailableError
from sshconvert.formats.registry import format_of
from sshconvert.libraries import import_openvino
from sshconvert.models.spec import ModelSpec
from sshconvert.validation import check_ir_sizes
from sshtool.runtimes.base import (
    BF16,
    F32,
    INFERENCE_PRECISIONS,
    Feed,
    Inference,
    Outputs,
    Runtime,
    Settings,
    missing_tensor,
    plain,
    prepared,
    reason,
    shown,
)
from sshtool.runtimes.registry import RUNTIMES

# OpenVINO's names of types. Its own conversion (`to_dtype`) does not know all types.
_TYPES: Final = {"f32": "float32", "u8": "uint8", "i32": "int32", "i64": "int64"}


@RUNTIMES.register("openvino")
class OpenVino(Runtime):
    key = "openvino"
    module = "openvino"
    name = "OpenVINO"
    formats = ("openvino", "onnx")
    usage = (
        "import openvino",
        """\
model = openvino.Core().compile_model("{path}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
outputs = list(model(data).values())""",
    )
    inference_precisions = INFERENCE_PRECISIONS

    def __init__(self, path: Path, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        """Load an .xml (or .onnx) file. A device is one of OpenVINO's: CPU, GPU, …

        By default, the runtime computes in float32, so that differences come from the model and not from a shorter type
        that the device prefers.
        """
        openvino = import_openvino()
        # The first tensor initialises the library. If two threads create it at once, they deadlock.
        openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
        self._path, self._tensor, self._model = path, openvino.Tensor, openvino.Model
        self._shown: dict[frozenset[str], Any] = {}  # the requests and ports of `tensors`, by their tensors' names
        self._parts: dict[Any, SimpleQueue[Any]] = {}  # the requests of `behind`, by names of tensors and shapes
        self._core = openvino.Core()
        self.version = str(openvino.__version__).split("-")[0]  # without the build number
        self.settings = settings
        form = format_of(path)
        metadata = form.read_metadata(path)  # OpenVINO's place for an ONNX file's metadata depends on its version
        model = self._read()
        if form.key == self.key:
            check_ir_sizes(path, model)
        self.declaration = declaration_of(path, metadata, [_tensor(port) for port in model.inputs])
        self._input = _name(model.inputs[0])
        self._compiled = self._compile(model)
        self.inference_precision = self._reported_precision(self._compiled)
        self._count = settings.requests or 1
        if settings.throughput and not settings.requests:
            self._count = max(1, int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
        if settings.throughput:
            self.parallel = self._count + 1  # one more thread prepares its images meanwhile
        self._requests = _requests(self._compiled, self._count)

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(path, settings)

    def run(self, feed: Feed) -> Outputs:
        return plain(self._run(self._requests, feed), self.declaration, self._path)

    def layers(self, feed: Feed) -> Outputs:
        model = self._read()
        outputs = {port.any_name for port in model.outputs}
        other = ("Constant", "Parameter", "Result")
        computed = [operation for operation in model.get_ordered_ops() if operation.get_type_name() not in other]
        ports = [port for operation in computed for port in operation.outputs() if port.get_names()]
        for port in ports:
            if not outputs & port.get_names():
                model.add_outputs(port)
        values = self._run(_requests(self._compile(model), 1), feed)
        # A tensor has several names where OpenVINO fused or removed operations.
        return {name: values[port.any_name] for port in ports for name in sorted(port.get_names())}

    def behind(self, tensors: Mapping[str, Array], feed: Feed) -> Outputs:
        names, inputs = tuple(sorted(tensors)), self._inputs(feed)
        sizes = (names, *(array.shape for array in inputs.values()))
        if sizes not in self._parts:
            with self._errors(feed):
                part = self._part_behind(names, {key: array.shape for key, array in inputs.items()})
            self._parts[sizes] = _requests(self._compile(part), 1)
        own = len(self._compiled.inputs)
        given = {own + number: tensors[name] for number, name in enumerate(names)}
        return plain(self._infer_once(self._parts[sizes], inputs | given, feed), self.declaration, self._path)

    def _part_behind(self, names: Sequence[str], shapes: Mapping[Any, Sequence[int]]) -> Any:
        """Return the model with further inputs in place of its tensors of these names, after its own inputs.

        An optimised IR may take the shape of a tensor behind `names` from one before them. It is fixed for inputs of
        these `shapes`, so that the network need not run for it.
        """
        model = self._read()
        if model.is_dynamic():
            model.reshape({model.input(key): list(shape) for key, shape in shapes.items()})
        nodes = [node for node in model.get_ordered_ops() if node.get_type_name() != "Result"]
        ports = {name: port for node in nodes for port in node.outputs() for name in port.get_names()}
        if missing := {*names} - {*ports}:
            raise missing_tensor(self._path, missing)
        results = [result for result in model.get_results() if not {*names} & result.input_value(0).get_names()]
        added = []
        for name in names:
            parameter = _parameter(ports[name].get_element_type(), ports[name].get_partial_shape())
            for reader in ports[name].get_target_inputs():
                reader.replace_source_output(parameter.output(0))
            added.append(parameter)
        return self._model(results, [*model.get_parameters(), *added])

    def tensors(self, feed: Feed, names: Collection[str]) -> Outputs:
        key = frozenset(names)
        if key not in self._shown:
            model = self._read()
            known = {name for node in model.get_ops() for port in node.outputs() for name in port.get_names()}
            if missing := key - known:
                raise missing_tensor(self._path, missing)
            model.add_outputs(sorted(key))
            compiled = self._compile(model)
            self._shown[key] = (_requests(compiled, 1), compiled.outputs)
        requests, ports = self._shown[key]
        values = self._run(requests, feed)
        wanted = key | {port.any_name for port in self._compiled.outputs}
        shown_values = {name: values[port.any_name] for port in ports for name in port.get_names() & wanted}
        return plain(shown_values, self.declaration, self._path)

    def inferences(self, feed: Feed) -> list[Inference]:
        requests = [self._compiled.create_infer_request() for _ in range(self._count)]
        with self._errors(feed):
            for request in requests:
                for key, array in self._inputs(feed).items():
                    request.set_tensor(self._compiled.input(key), self._tensor(array))
        return [partial(self._infer, request, feed) for request in requests]

    @classmethod
    def default_requests(cls, threads: int) -> int:
        return 0

    def _infer(self, request: Any, feed: Feed) -> None:
        with self._errors(feed):
            request.start_async()  # `infer` also copies the outputs
            request.wait()

    @contextmanager
    def _errors(self, feed: Feed) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ArtifactError(f"{self._path}: OpenVINO cannot run it on {shown(feed)} ({reason(error)})") from None

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._path)  # a Path, whose name may be undecodable bytes
        except (RuntimeError, ValueError) as error:  # ValueError for a message that quotes undecodable bytes
            raise ArtifactError(f"{self._path}: OpenVINO cannot read it ({reason(error)}); convert again") from None

    def _compile(self, model: Any) -> Any:
        device, threads = self.settings.device, self.settings.threads
        precision, requests = self.settings.inference_precision, self.settings.requests
        config = {"INFERENCE_PRECISION_HINT": precision} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        config |= {"PERFORMANCE_HINT": "THROUGHPUT" if self.settings.throughput else "LATENCY"}
        if self.settings.throughput:
            runs = requests or math.ceil(self.settings.images / (self.declaration.input_shape[0] or 1))
            config |= {"PERFORMANCE_HINT_NUM_REQUESTS": runs} if runs else {}
        if device.split(".")[0].split(":")[0] not in (*self._core.available_devices, "AUTO", "HETERO"):
            devices = ", ".join(self._core.available_devices)
            raise RuntimeUnavailableError(f"openvino: device {device} is missing; use {devices}")
        self._check_precision()
        try:
            return self._core.compile_model(model, device, config)
        except (RuntimeError, ValueError) as error:  # ValueError for a message that quotes undecodable bytes
            if precision != F32:
                raise self._cannot(f"compile it in {precision} ({reason(error)})") from None
            raise ArtifactError(f"{self._path}: OpenVINO cannot compile it ({reason(error)}); convert again") from None

    def _check_precision(self) -> None:
        """Refuse bf16 on a device without it, which may accept the hint and silently compute in another type."""
        device = self.settings.device
        if self.settings.inference_precision != BF16:
            return
        try:
            capabilities = [str(item) for item in self._core.get_property(device, "OPTIMIZATION_CAPABILITIES")]
        except (RuntimeError, ValueError):  # a virtual device, such as AUTO
            capabilities = []
        if BF16.upper() not in capabilities:
            raise self._cannot(f"compute in {BF16} (capabilities of {device}: {', '.join(capabilities) or 'none'})")

    def _reported_precision(self, compiled: Any) -> str:
        """Return the precision that the compiled model reports, "" if it reports none.

        Raises RuntimeUnavailableError if it is not the requested precision.
        """
        precision = self.settings.inference_precision
        try:
            reported = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        except (RuntimeError, ValueError):  # a device without this property
            reported = ""
        if reported != precision and (reported or precision != F32):
            raise self._cannot(f"compute in {precision}: it would use {reported or 'an unreported precision'}")
        return reported

    def _cannot(self, action: str) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(
            f"{self._path}: OpenVINO on {self.settings.device} cannot {action}; omit --inference-precision, or use a "
            "machine whose processor has AVX-512 BF16 or AMX"
        )

    def _inputs(self, feed: Feed) -> dict[Any, Array]:
        """Return the inputs by name; the image, whose name an IR may lack, by its number."""
        values = prepared(feed, self.declaration, self._input)
        return dict(values) if self.declaration.tensors else {0: values[self._input]}

    def _run(self, requests: SimpleQueue[Any], feed: Feed) -> Outputs:
        return self._infer_once(requests, self._inputs(feed), feed)

    def _infer_once(self, requests: SimpleQueue[Any], values: Mapping[Any, Array], feed: Feed) -> Outputs:
        request = requests.get()
        try:
            with self._errors(feed):
                results = request.infer(dict(values), share_inputs=True)
                return {port.any_name: np.array(value) for port, value in results.items()}
        finally:
            requests.put(request)


def _name(port: Any) -> str:
    """Return the name of an input. It has others too if the first operation behind it was removed."""
    name = str(port.get_node().get_friendly_name())
    names = port.get_names()
    return name if name in names or not names else str(port.any_name)


def _tensor(port: Any) -> Tensor:
    kind = port.element_type.get_type_name()
    sizes = tuple(size.get_length() if size.is_static else FREE for size in port.partial_shape)
    return Tensor(_name(port), _TYPES.get(kind, kind), sizes)


def _requests(compiled: Any, count: int) -> SimpleQueue[Any]:
    """Return a pool of requests. A request runs one computation at a time; a thread takes it and puts it back."""
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def _parameter(element: Any, shape: Any) -> Any:
    """Return an input node. OpenVINO 2024 keeps the class in `openvino.runtime`, which later versions remove."""
    openvino = import_openvino()
    op = openvino.op if hasattr(openvino, "op") else import_module("openvino.runtime").op
    return op.Parameter(element, shape)
