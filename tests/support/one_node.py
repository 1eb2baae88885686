"""Networks of one node: by MXNet's own symbols and by hand, and what they compute in MXNet and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.export import export
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.network import Network, parse_symbol, resolve
from sshconvert.onnx.model import OnnxModel

Mxnet: TypeAlias = Any
Symbol: TypeAlias = Any
Value: TypeAlias = Any  # of an attribute, as `mx.sym` takes it
Parameter: TypeAlias = Any  # what `pytest.param` makes, a class without a public name

DATA: Final = {"data": (1, 4, 8, 8)}
IMAGE: Final = (2, 4, 9, 8)


def network_of(symbol: Symbol, inputs: Mapping[str, Shape]) -> Network:
    return resolve(parse_symbol(symbol.tojson()), inputs)


def values_for(shapes: Mapping[str, Shape]) -> dict[str, Array]:
    """Seeded values: of both signs, far from any default, and variances that are positive."""
    random = np.random.default_rng(20)
    return {
        name: (random.uniform(0.01, 2, shape) if name.endswith("var") else random.normal(0.5, 1, shape)).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }


def run_mxnet(mxnet: Mxnet, symbol: Symbol, values: Mapping[str, Array]) -> list[Array]:
    arrays = {name: mxnet.nd.array(value, dtype=value.dtype) for name, value in values.items()}
    executor = symbol.bind(
        mxnet.cpu(),
        {name: arrays[name] for name in symbol.list_arguments()},
        aux_states={name: arrays[name] for name in symbol.list_auxiliary_states()},
        grad_req="null",
    )
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def run_onnx(model: OnnxModel, folder: Path, inputs: Mapping[str, Array]) -> list[Array]:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model.write(folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_outputs()]
    outputs: list[Array] = session.run(names, {name: inputs[name] for name in model.inputs})
    return outputs


def assert_like_mxnet(mxnet: Mxnet, symbol: Symbol, inputs: Mapping[str, Shape], folder: Path) -> None:
    network = network_of(symbol, inputs)
    parameters = network.parameters(inputs)
    values = values_for({**inputs, **parameters})
    model = export(network, {name: values[name] for name in parameters}, inputs, name="test")

    theirs = run_mxnet(mxnet, symbol, values)
    ours = run_onnx(model, folder, values)

    assert [value.shape for value in ours] == [value.shape for value in theirs]
    for our_value, their_value in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our_value, their_value, rtol=1e-5, atol=1e-5)


def graph_of(*nodes: Node, outputs: Sequence[int] = (-1,)) -> Graph:
    return Graph(nodes, tuple(Entry(number % len(nodes)) for number in outputs), "model-symbol.json")


def variable(name: str) -> Node:
    return Node("null", name, {})


def node(operator: str, name: str, inputs: Sequence[int], **attributes: str) -> Node:
    return Node(operator, name, attributes, tuple(Entry(number) for number in inputs))


def lone(operator: str, inputs: int, **attributes: str) -> Graph:
    """One node over as many variables, which are called data, in1, in2, and so on."""
    variables = [variable(f"in{number}" if number else "data") for number in range(inputs)]
    return graph_of(*variables, node(operator, "node", range(inputs), **attributes))


def convolution(inputs: int = 3, **attributes: str) -> Graph:
    return lone("Convolution", inputs, **({"kernel": "(3, 3)", "num_filter": "4"} | attributes))


def pooling(**attributes: str) -> Graph:
    return lone("Pooling", 1, **({"kernel": "(2, 2)"} | attributes))


def export_zeros(graph: Graph, inputs: Mapping[str, Shape]) -> OnnxModel:
    network = resolve(graph, inputs)
    zero = np.zeros((), np.float32)
    parameters = {name: np.broadcast_to(zero, shape) for name, shape in network.parameters(inputs).items()}
    return export(network, parameters, inputs, name="test")


def assert_unsupported(graph: Graph, problem: str) -> None:
    with pytest.raises(UnsupportedGraphError) as caught:
        resolve(graph, {"data": (1, 4, 8, 8)})

    message = str(caught.value)
    assert message.startswith("model-symbol.json: ")
    assert "node" in message.removeprefix("model-symbol.json: ")
    assert problem in message


def assert_misshapen(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    with pytest.raises(ShapeError) as caught:
        resolve(graph, inputs)

    assert str(caught.value).startswith("model-symbol.json: ")
    assert problem in str(caught.value)
