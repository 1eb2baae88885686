"""A runtime that computes an ONNX file as if one of its layers had a fault, without writing or loading a copy.

A fault of one filter is arithmetic on the layer's result. So the network runs once on each sample up to that layer, and
for each fault only from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.digest import bytes_sha256
from sshconvert.editable import NotThereError
from sshconvert.formats.registry import format_of
from sshconvert.libraries import import_onnxruntime
from sshconvert.operators.registry import weight_inputs
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, prepared

# Changes a layer's result [N, C, ...] in place.
Change = Callable[[Array], None]

FIXED: Final = 1  # the axis of the channels; the sizes of the others are left open


class PlantedLayer(Runtime):
    """The artifact of `healthy` with `change` applied to the result of `layer`. None computes it unchanged."""

    key, name, module, formats = "planted", "ONNX Runtime", "onnxruntime", ()

    def __init__(self, healthy: Runtime, path: Path, layer: str) -> None:
        self.healthy, self.layer = healthy, layer
        self.version, self.settings, self.declaration = healthy.version, healthy.settings, healthy.declaration
        self.inference_precision = healthy.inference_precision
        self.change: Change | None = None
        model = onnx.load(path)
        self.outputs = [output.name for output in model.graph.output]
        node = next(node for node in model.graph.node if node.name == layer)
        self.result: str = node.output[0]
        self._input: str = model.graph.input[0].name
        behind = list(_behind(model.graph.node, self.result))
        self._made = {name for node in behind for name in node.output}
        stored = {tensor.name for tensor in model.graph.initializer} | {""}
        read = {name for node in behind for name in node.input} | set(self.outputs)
        self._given = (read | {self.result}) - self._made - stored
        self._behind, self._model = behind, model
        self._before: dict[tuple[str, ...], Any] = {}
        self._after: dict[tuple[str, ...], Any] = {}
        self._parts: dict[tuple[str, tuple[str, ...]], dict[str, Array]] = {}
        try:
            self.bias: Array | None = format_of(path).edit(path).bias(layer)
        except NotThereError:  # computed: it is nothing that a fault of the file could change
            self.bias = None

    @classmethod
    def load(cls, path: Path, model: Any, settings: Any) -> Runtime:
        raise NotImplementedError

    def run(self, feed: Feed) -> Outputs:
        return self._run(feed, self.outputs)

    def tensors(self, feed: Feed, names: Collection[str]) -> Outputs:
        return self._run(feed, [*self.outputs, *sorted(names)])

    def _run(self, feed: Feed, names: Sequence[str]) -> Outputs:
        given = dict(self.before(feed, names))
        if self.change is not None:
            given[self.result] = given[self.result].copy()
            self.change(given[self.result])
        made = given | self._computed(given, names)
        return {name: made[name] for name in names}

    def _computed(self, given: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Compute what the nodes behind the layer make of these tensors."""
        wanted = tuple(name for name in names if name in self._made)
        if not wanted:
            return {}
        if wanted not in self._after:
            self._after[wanted] = _session(_beginning_at(self._model, self._behind, given, wanted))
        after = self._after[wanted]
        return dict(
            zip(wanted, after.run(wanted, {item.name: given[item.name] for item in after.get_inputs()}), strict=True)
        )

    def before(self, feed: Feed, names: Sequence[str] = ()) -> Mapping[str, Array]:
        """Return the tensors that the rest of the network reads, the layer's result and those of `names` among them."""
        given = tuple(sorted({*self._given, *(name for name in names if name not in self._made)}))
        key = (feed_digest(feed), given)
        if key not in self._parts:
            computed = [name for name in given if name != self._input]
            if given not in self._before:
                self._before[given] = _session(_ending_at(self._model, computed))
            inputs = prepared(feed, self.declaration, self._input)
            values = dict(zip(computed, self._before[given].run(computed, inputs), strict=True))
            self._parts[key] = values | {name: inputs[name] for name in given if name in inputs}
        return self._parts[key]

    def layers(self, feed: Feed) -> Outputs:
        raise NotImplementedError

    def inferences(self, feed: Feed) -> list[Inference]:
        raise NotImplementedError


def layers_of(path: Path) -> list[str]:
    """Return the layers of an ONNX file with weights, in the order of computation."""
    return [
        node.name for node in onnx.load(path, load_external_data=False).graph.node if node.op_type in weight_inputs()
    ]


def feed_digest(feed: Feed) -> str:
    arrays = {"": feed} if isinstance(feed, np.ndarray) else feed
    return bytes_sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values()))


def _behind(nodes: Sequence[onnx.NodeProto], tensor: str) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that depend on a tensor."""
    known = {tensor}
    for node in nodes:
        if known & set(node.input):
            known |= set(node.output)
            yield node


def _ending_at(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    cut: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    del cut.graph.output[:]
    cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return cut


def _beginning_at(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], given: Mapping[str, Array], outputs: Sequence[str]
) -> onnx.ModelProto:
    read = {name for node in nodes for name in node.input}
    inputs = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            [size if axis == FIXED else f"{name}_{axis}" for axis, size in enumerate(array.shape)],
        )
        for name, array in given.items()
        if name in read
    ]
    graph = onnx.helper.make_graph(
        list(nodes),
        "rest",
        inputs,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    rest: onnx.ModelProto = onnx.helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    return rest


def _session(model: onnx.ModelProto) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
