"""Networks of several nodes: what is refused, computed and left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

from one_node import (
    DATA,
    assert_like_mxnet,
    assert_unsupported,
    convolution,
    export_zeros,
    graph_of,
    lone,
    node,
    run_mxnet,
    run_onnx,
    variable,
)
from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.export import export
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.mxnet.params import read_params
from sshconvert.network import parse_symbol, read_symbol, resolve
from sshtool.demo.symbol import ssh_vgg16_symbol

Mxnet: TypeAlias = Any

SSH_INPUT: Final = {"data": (1, 3, 640, 640)}


@pytest.mark.parametrize("size", [(1, 3, 640, 640), (2, 3, 96, 160)])
def test_all_shapes_of_the_ssh_symbol_are_those_that_mxnet_infers(size: Shape, mxnet: Mxnet) -> None:
    network = resolve(parse_symbol(ssh_vgg16_symbol()), {"data": size})

    internals = mxnet.sym.load_json(ssh_vgg16_symbol()).get_internals()
    _, theirs, _ = internals.infer_shape(data=size)

    names = [name.removesuffix("_output") for name in internals.list_outputs()]
    ours = {node.name: shape for node, (shape,) in zip(network.graph.nodes, network.shapes, strict=True)}
    assert ours == dict(zip(names, theirs, strict=True))


def test_a_node_may_be_named_like_a_constant_of_another(mxnet: Mxnet, tmp_path: Path) -> None:
    rows = mxnet.sym.Reshape(mxnet.sym.Variable("data"), shape=(0, -1), name="rows")
    symbol = mxnet.sym.Activation(rows, act_type="relu", name="rows_shape")

    assert_like_mxnet(mxnet, symbol, {"data": (2, 3, 4)}, tmp_path)


def test_a_variable_may_be_named_like_a_constant_of_a_node(mxnet: Mxnet, tmp_path: Path) -> None:
    rows = mxnet.sym.Reshape(mxnet.sym.Variable("data"), shape=(0, -1), name="rows")
    symbol = mxnet.sym.elemwise_add(rows, mxnet.sym.Variable("rows_shape"), name="sum")

    assert_like_mxnet(mxnet, symbol, {"data": (2, 3, 4), "rows_shape": (2, 12)}, tmp_path)


def test_the_retinaface_checkpoint_computes_what_mxnet_computes(
    shared_data: Path, mxnet: Mxnet, tmp_path: Path
) -> None:
    folder = shared_data / "retinaface-16and32"
    inputs = {"data": (1, 3, 96, 128)}
    network = resolve(read_symbol(folder / "16and32-symbol.json"), inputs)
    arrays = read_params(folder / "16and32-0000.params")
    parameters = {name.partition(":")[2]: array for name, array in arrays.items()}
    data = np.random.default_rng(5).uniform(0, 255, inputs["data"]).astype(np.float32)

    model = export(network, parameters, inputs, name="retinaface")
    ours = run_onnx(model, tmp_path, {"data": data})
    theirs = run_mxnet(mxnet, mxnet.sym.load(str(folder / "16and32-symbol.json")), {**parameters, "data": data})

    assert {name: array.shape for name, array in parameters.items()} == network.parameters(inputs)
    assert len(ours) == 4
    for our_value, their_value in zip(ours, theirs, strict=True):
        assert our_value.shape == their_value.shape
        assert np.ptp(their_value) > 0
        assert np.abs(our_value - their_value).max() <= 1e-5 * np.ptp(their_value)


def test_one_refusal_lists_everything_that_is_not_supported() -> None:
    graph = graph_of(
        variable("data"),
        node("Riddle", "riddle", (0,)),
        node("Pooling", "pool", (1,), kernel="(2, 2)", pool_type="median", pooling_convention="odd"),
        node("Activation", "relu", (2,), act_type="relu"),
        node("Reshape", "reshape", (3,), shape="(0, -1)", colour="red"),
        node("Mystery", "mystery", (4,)),
    )

    with pytest.raises(UnsupportedGraphError) as caught:
        resolve(graph, {"data": (1, 4, 8, 8)})

    assert str(caught.value).split("; ") == [
        "model-symbol.json: 5 unsupported operators, attributes or outputs: riddle: operator Riddle",
        "mystery: operator Mystery",
        "pool (Pooling): attribute pooling_convention='odd' is not supported: expected valid or full or same",
        "pool (Pooling): attribute pool_type='median' is not supported: expected max or avg or sum or lp",
        "reshape (Reshape): attribute colour='red' is not known",
    ]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "Pooling"])
def test_a_kernel_that_cannot_be_read_is_the_only_problem_told(kind: str) -> None:
    filters = {} if kind == "Pooling" else {"num_filter": "4", "no_bias": "True"}
    attributes = {"kernel": "(3, x)", "stride": "(2, 2)", "pad": "(1, 1)", **filters}

    with pytest.raises(
        UnsupportedGraphError,
        match=r": 1 unsupported operators, attributes or outputs: node \(\w+\): attribute kernel=",
    ):
        resolve(lone(kind, 1 if kind == "Pooling" else 2, **attributes), {"data": (1, 4, 8, 8)})


def test_a_second_output_is_refused_wherever_it_is_read() -> None:
    nodes = (variable("data"), node("Activation", "relu", (0,), act_type="relu"))
    reader = Node("Activation", "again", {"act_type": "relu"}, (Entry(1, 1),))

    with pytest.raises(UnsupportedGraphError, match="again: output 1 of relu"):
        resolve(graph_of(*nodes, reader), {"data": (1, 2)})
    with pytest.raises(UnsupportedGraphError, match="output 2 of relu"):
        resolve(Graph(nodes, (Entry(1, 2),), "model-symbol.json"), {"data": (1, 2)})


def test_what_the_trainer_and_the_kernels_read_is_no_attribute_of_an_operator() -> None:
    graph = convolution(__lr_mult__="2", __init__="zero", workspace="512", cudnn_tune="off", cudnn_off="True")

    assert resolve(graph, {"data": (1, 2, 8, 8)}).output_shapes() == {"node": (1, 4, 6, 6)}


def test_a_shape_that_does_not_fit_is_refused_by_the_nodes_name() -> None:
    graph = graph_of(
        variable("data"),
        node("Pooling", "first", (0,), kernel="(2, 2)", stride="(2, 2)"),
        node("Pooling", "second", (1,), kernel="(5, 5)"),
    )

    with pytest.raises(ShapeError, match=r"model-symbol\.json.*5"):
        resolve(graph, {"data": (1, 1, 8, 8)})


def test_variables_that_nothing_reads_are_refused_by_name() -> None:
    graph = graph_of(variable("data"), variable("idle"), node("Activation", "relu", (0,), act_type="relu"))

    with pytest.raises(ShapeError, match=r"^model-symbol\.json: .*idle"):
        resolve(graph, DATA)


def test_a_graph_with_one_output_twice_keeps_both_or_is_refused() -> None:
    graph = graph_of(variable("data"), node("Activation", "relu", (0,), act_type="relu"), outputs=(1, 1))

    try:
        model = export_zeros(graph, DATA)
    except (ShapeError, UnsupportedGraphError):
        return
    assert len(model.outputs) == 2


def assert_complexity_of_the_model_card(graph: Graph) -> None:
    network = resolve(graph, SSH_INPUT)
    parameters = sum(math.prod(shape) for shape in network.parameters(SSH_INPUT).values())
    operations = network.flops() + 3 * 640 * 640

    assert round(parameters / 1e6, 4) == 19.7684
    assert operations == 267_059_366_400
    assert round(operations / 1e9, 4) == 267.0594


def test_the_complexity_of_the_demo_symbol_is_that_of_the_model_card() -> None:
    assert_complexity_of_the_model_card(parse_symbol(ssh_vgg16_symbol()))


def test_the_complexity_of_the_real_symbol_is_that_of_the_model_card(shared_data: Path) -> None:
    assert_complexity_of_the_model_card(read_symbol(shared_data / "ssh-vgg16-symbol.json"))


def test_a_network_may_have_several_inputs_with_free_batches_of_their_own() -> None:
    graph = graph_of(
        variable("left"),
        variable("right"),
        node("Activation", "one", (0,), act_type="relu"),
        node("Activation", "two", (1,), act_type="tanh"),
        node("Reshape", "joined", (1,), shape="(-3, 0)"),
        outputs=(2, 3, 4),
    )
    network = resolve(graph, {"left": (1, 3), "right": (4, 2, 5)})
    larger = resolve(graph, {"left": (9, 3), "right": (6, 2, 5)})

    model = export(network, {}, {"left": ("n", 3), "right": ("m", 2, 5)}, name="test", larger=larger)

    assert model.inputs == {"left": ("n", 3), "right": ("m", 2, 5)}
    assert model.outputs == {"one": ("n", 3), "two": ("m", 2, 5), "joined": ("", 5)}


def test_an_operator_that_is_not_supported_is_refused_by_name() -> None:
    assert_unsupported(lone("Mystery", 1), "node: operator Mystery")


def test_a_variable_whose_shape_nothing_else_gives_has_the_shape_in_its_symbol() -> None:
    scale = Node("null", "scale", {"__shape__": "(1, 4, 1, 1)"})
    graph = graph_of(scale, variable("data"), node("broadcast_mul", "product", (0, 1)))

    assert resolve(graph, DATA).parameters(DATA) == {"scale": (1, 4, 1, 1)}
    with pytest.raises(ShapeError, match="scale"):
        resolve(graph_of(Node("null", "scale", {"__shape__": "(1, 0, 1, 1)"}), *graph.nodes[1:]), DATA)
