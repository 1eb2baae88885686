"""ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Tensor, declaration_of
from sshconvert.errors import ArtifactError, RuntimeUnavailableError
from sshconvert.libraries import import_onnxruntime
from sshconvert.messages import without_surrogates
from sshconvert.models.spec import ModelSpec
from sshconvert.threads import usable_cores
from sshconvert.validation import read_onnx
from sshtool.runtimes.base import (
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
from sshtool.runtimes.onnx_part import part_behind
from sshtool.runtimes.registry import RUNTIMES

# The session option for the folder of external weights, for a model loaded from memory.
_WEIGHTS_FOLDER: Final = "session.model_external_initializers_file_folder_path"

# ONNX Runtime's names of types that NumPy calls otherwise.
_TYPES: Final = {"float": "float32"}

# Execution providers that compute on a remote machine.
_REMOTE_PROVIDERS: Final = ("AzureExecutionProvider",)


def _is_unicode(path: Path) -> bool:
    return without_surrogates(str(path)) == str(path)


@RUNTIMES.register("onnxruntime")
class OnnxRuntime(Runtime):
    key = "onnxruntime"
    module = "onnxruntime"
    name = "ONNX Runtime"
    formats = ("onnx",)
    usage = (
        "import onnxruntime",
        'outputs = onnxruntime.InferenceSession("{path}").run(None, {{{name}: data}})',
    )

    def __init__(self, path: Path, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        """Load an .onnx file. A device is the name of an execution provider: CPU, CUDA, …"""
        self._onnxruntime = import_onnxruntime()
        self._path = path
        self.version = str(self._onnxruntime.__version__)
        self.settings = settings
        # Without requests, all computations share one pool of threads, so only one runs at a time. A second caller
        # prepares its images meanwhile.
        self.parallel = settings.requests or (2 if settings.throughput else 1)
        self._slots = threading.BoundedSemaphore(settings.requests or 1)
        model = read_onnx(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        del model  # as large as the file
        # ONNX Runtime only opens files whose names are Unicode.
        self._session = self._open(str(path) if _is_unicode(path) else path.read_bytes())
        inputs = self._session.get_inputs()
        self._input = inputs[0].name
        self._shown: dict[frozenset[str], Any] = {}  # the sessions of `tensors`, by the names of their tensors
        self._parts: dict[frozenset[str], Any] = {}  # the sessions of `behind`, by the names of their tensors
        self.declaration = declaration_of(path, metadata, [_tensor(item) for item in inputs])

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(path, settings)

    def run(self, feed: Feed) -> Outputs:
        return plain(self._run(self._session, feed), self.declaration, self._path)

    def layers(self, feed: Feed) -> Outputs:
        model = read_onnx(self._path)
        outputs = {output.name for output in model.graph.output}
        tensors = [name for node in model.graph.node for name in node.output]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in outputs)
        values = self._run(self._open(model.SerializeToString()), feed)
        return {name: values[name] for name in tensors}

    def behind(self, tensors: Mapping[str, Array], feed: Feed) -> Outputs:
        names = frozenset(tensors)
        if names not in self._parts:
            model = read_onnx(self._path)
            if missing := names - {name for node in model.graph.node for name in node.output}:
                raise missing_tensor(self._path, missing)
            self._parts[names] = self._open(part_behind(model, names).SerializeToString())
        part = self._parts[names]
        inputs = {**prepared(feed, self.declaration, self._input), **tensors}
        taken = {item.name: inputs[item.name] for item in part.get_inputs()}
        outputs = [item.name for item in part.get_outputs()]
        values = dict(zip(outputs, self._compute(part, outputs, taken, feed), strict=True))
        return plain(values, self.declaration, self._path)

    def tensors(self, feed: Feed, names: Collection[str]) -> Outputs:
        key = frozenset(names)
        if key not in self._shown:
            model = read_onnx(self._path)
            if missing := key - {name for node in model.graph.node for name in node.output}:
                raise missing_tensor(self._path, missing)
            outputs = {output.name for output in model.graph.output}
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(key - outputs))
            self._shown[key] = self._open(model.SerializeToString())
        return plain(self._run(self._shown[key], feed), self.declaration, self._path)

    def inferences(self, feed: Feed) -> list[Inference]:
        names = [output.name for output in self._session.get_outputs()]
        inputs = prepared(feed, self.declaration, self._input)

        def infer() -> None:
            self._compute(self._session, names, inputs, feed)

        return [infer] * (self.settings.requests or 1)

    def _open(self, source: str | bytes) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads()
        options.log_severity_level = 4  # errors are raised
        if isinstance(source, bytes) and _is_unicode(self._path):
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(self._path.parent))
        provider = self._provider()
        try:
            return self._onnxruntime.InferenceSession(source, options, providers=[provider])
        except Exception as error:  # ONNX Runtime has a dozen exceptions without another common base
            raise ArtifactError(
                f"{self._path}: ONNX Runtime cannot load it ({reason(error)}); convert again"
            ) from error

    def _threads(self) -> int:
        """Return the number of threads of each computation. 0 lets the library take one for each core."""
        requests = self.settings.requests
        return max(1, (self.settings.threads or usable_cores()) // requests) if requests else self.settings.threads

    def _provider(self) -> str:
        names = {
            name.removesuffix("ExecutionProvider").upper(): name
            for name in self._onnxruntime.get_available_providers()
            if name not in _REMOTE_PROVIDERS
        }
        if self.settings.device.upper() not in names:
            raise RuntimeUnavailableError(
                f"onnxruntime: device {self.settings.device} is missing; use {', '.join(sorted(names))}"
            )
        return str(names[self.settings.device.upper()])

    def _run(self, session: Any, feed: Feed) -> Outputs:
        names = [output.name for output in session.get_outputs()]
        inputs = prepared(feed, self.declaration, self._input)
        with self._slots:
            values = self._compute(session, names, inputs, feed)
        return dict(zip(names, values, strict=True))

    def _compute(self, session: Any, names: list[str], inputs: dict[str, Any], feed: Feed) -> list[Any]:
        try:
            return list(session.run(names, inputs))
        except Exception as error:  # ONNX Runtime has a dozen exceptions without another common base
            raise ArtifactError(
                f"{self._path}: ONNX Runtime cannot run it on {shown(feed)} ({reason(error)})"
            ) from error


def _tensor(value: Any) -> Tensor:
    kind = value.type[len("tensor(") : -1]
    sizes = tuple(size if isinstance(size, int) else FREE for size in value.shape)
    return Tensor(value.name, _TYPES.get(kind, kind), sizes)
