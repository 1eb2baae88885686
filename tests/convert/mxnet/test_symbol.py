"""Symbol JSON in every dialect, against MXNet's own loader, and everything that is refused."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given, settings, strategies as st

from dialects import VERSIONS, in_dialect, written
from sshconvert.errors import SymbolError
from sshconvert.graph import Entry, Graph, Node
from sshconvert.mxnet.symbol import HIDDEN_KEYS, MAX_BYTES, MAX_NAME
from sshconvert.network import output_names, parse_symbol, read_symbol
from sshconvert.operators.registry import signatures
from sshtool.demo.symbol import ssh_vgg16_symbol

Mxnet: TypeAlias = Any
Json: TypeAlias = Any  # whatever `json.loads` can give
Document: TypeAlias = dict[str, Json]

DIALECTS: Final = [pytest.param(version, id=name) for name, version in VERSIONS.items()]


@pytest.fixture(params=["real", "demo"])
def ssh_document(request: pytest.FixtureRequest) -> Document:
    """The SSH symbol in its own dialect, that of 1.1: the real one, and the one that the package builds."""
    if request.param == "demo":
        text = ssh_vgg16_symbol()
    else:
        folder: Path = request.getfixturevalue("shared_data")
        text = (folder / "ssh-vgg16-symbol.json").read_text("utf-8")
    document: Document = json.loads(text)
    return document


def parse(document: Document) -> Graph:
    return parse_symbol(json.dumps(document))


def resaved(mxnet: Mxnet, document: Document) -> Graph:
    return parse_symbol(mxnet.sym.load_json(json.dumps(document)).tojson())


@pytest.mark.parametrize("version", DIALECTS)
def test_the_ssh_symbol_is_one_graph_in_every_dialect(ssh_document: Document, version: int | None) -> None:
    graph = parse(ssh_document)

    assert len(graph.nodes) == 158
    assert parse(in_dialect(ssh_document, version)) == graph


@pytest.mark.parametrize("version", DIALECTS)
def test_mxnet_makes_the_same_graph_of_every_dialect(ssh_document: Document, version: int | None, mxnet: Mxnet) -> None:
    assert resaved(mxnet, in_dialect(ssh_document, version)) == parse(ssh_document)


def test_the_0_8_dialect_of_these_tests_hides_nothing(ssh_document: Document) -> None:
    old = json.dumps(in_dialect(ssh_document, None))

    assert '"lr_mult"' in old
    assert not re.search(r"__(lr|wd)_mult__|attrs|node_row_ptr", old)
    assert '"__init__"' in old


def test_the_demo_symbol_is_the_real_one_node_for_node(shared_data: Path) -> None:
    real = read_symbol(shared_data / "ssh-vgg16-symbol.json")
    demo = parse_symbol(ssh_vgg16_symbol())

    assert [node.name for node in demo.nodes] == [node.name for node in real.nodes]
    for ours, theirs in zip(demo.nodes, real.nodes, strict=True):
        assert ours == theirs
    assert demo.outputs == real.outputs


def test_the_demo_symbol_has_the_detectors_outputs_in_order() -> None:
    graph = parse_symbol(ssh_vgg16_symbol())

    assert output_names(graph) == (
        "rpn_cls_prob_reshape_stride32",
        "rpn_bbox_pred_stride32",
        "rpn_cls_prob_reshape_stride16",
        "rpn_bbox_pred_stride16",
        "rpn_cls_prob_reshape_stride8",
        "rpn_bbox_pred_stride8",
    )
    assert graph.variables[:3] == ("data", "conv1_1_weight", "conv1_1_bias")


def test_mxnet_saves_the_retinaface_symbol_as_the_same_graph(shared_data: Path, mxnet: Mxnet) -> None:
    text = (shared_data / "retinaface-16and32" / "16and32-symbol.json").read_text("utf-8")

    assert parse_symbol(mxnet.sym.load_json(text).tojson()) == parse_symbol(text)


ODD_NAMES: Final = {
    # The names as they are written, and as they are read. The last is the output.
    "shared": (("a", "a", "a", "a"), ("a_1", "a_2", "a_3", "a")),
    "taken": (("a", "a_1", "a", "end"), ("a", "a_1", "a_2", "end")),
    "the variable's": (("data", "data", "b", "end"), ("data_1", "data_2", "b", "end")),
    "missing": (("", "", "activation1", "end"), ("activation1_1", "activation2", "activation1", "end")),
    "missing of the output": (("", "a", "", ""), ("activation1", "a", "activation3", "activation4")),
}


def chain(names: Sequence[str]) -> Document:
    nodes = [operator("Activation", name, [at], attrs={"act_type": "tanh"}) for at, name in enumerate(names)]
    return document_of([variable("data"), *nodes], version=10901)


@pytest.mark.parametrize(("written_names", "read"), ODD_NAMES.values(), ids=ODD_NAMES)
def test_operators_without_names_of_their_own_get_some(written_names: Sequence[str], read: Sequence[str]) -> None:
    graph = parse(chain(written_names))

    assert [node.name for node in graph.nodes] == ["data", *read]
    assert output_names(graph) == (read[-1],)


def test_ten_thousand_operators_of_one_name_take_no_longer_than_others() -> None:
    started = time.process_time()
    graph = parse(chain(["a"] * 10_000))

    assert len({node.name for node in graph.nodes}) == 10_001
    assert time.process_time() - started < 5  # seconds; if each began to count from 1, it would be minutes


def test_outputs_of_one_name_which_mxnet_cannot_tell_apart_get_names_of_their_own(mxnet: Mxnet) -> None:
    document = chain(["a", "a"]) | {"heads": [[1, 0], [2, 0]]}

    symbol = mxnet.sym.load_json(json.dumps(document))
    assert symbol.list_outputs() == ["a_output", "a_output"]
    with pytest.raises(ValueError, match="multiple outputs"):
        symbol["a_output"]
    assert output_names(parse(document)) == ("a", "a_1")


# Two have variables of one name, whose network MXNet cannot bind; six are quantized.
REFUSED_FOR_NAMES: Final = {"unet-cpp-a", "unet-cpp-b"}


def test_real_networks_are_refused_for_their_names_only_where_mxnet_confuses_them(shared_data: Path) -> None:
    confused = set()
    for path in sorted((shared_data / "zoo" / "symbols").glob("*.json")):
        try:
            graph = read_symbol(path)
        except SymbolError as error:
            if "name" in str(error).removeprefix(str(path)):
                confused.add(path.stem)
            continue
        assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    assert confused == REFUSED_FOR_NAMES


def test_layers_that_share_a_name_are_left_out_of_the_comparison(mxnet: Mxnet) -> None:
    """Of the original's tensors; all others are there."""
    from sshtool.runtimes.mxnet import uniquely_named

    symbol = mxnet.sym.load_json(json.dumps(chain(["a", "b", "a", "end"])))
    assert uniquely_named(symbol.get_internals().list_outputs(), {"data"}) == ["b_output", "end_output"]


def variable(name: str, **fields: Json) -> Document:
    return {"op": "null", "name": name, "inputs": [], **fields}


def operator(kind: str, name: str, inputs: Sequence[int], **fields: Json) -> Document:
    return {"op": kind, "name": name, "inputs": [[number, 0] for number in inputs], **fields}


def document_of(nodes: Sequence[Document], *, version: int | None = None) -> Document:
    return {
        "nodes": list(nodes),
        "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [[len(nodes) - 1, 0]],
        **({} if version is None else {"attrs": {"mxnet_version": ["int", version]}}),
    }


def batch_norm(**fields: Json) -> list[Document]:
    names = ("data", "bn_gamma", "bn_beta")
    return [*(variable(name) for name in names), operator("BatchNorm", "bn", (0, 1, 2), **fields)]


def without_initialisers(graph: Graph) -> Graph:
    """The graph without `__init__`: MXNet gives the statistics it appends the initialisers of a training run."""
    nodes = tuple(
        Node(node.operator, node.name, {k: v for k, v in node.attributes.items() if k != "__init__"}, node.inputs)
        for node in graph.nodes
    )
    return Graph(nodes, graph.outputs, graph.source)


def test_batch_norm_of_0_8_gets_its_statistics_appended() -> None:
    graph = parse(document_of(batch_norm(param={"eps": "0.002"})))

    assert graph.variables == ("data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var")
    assert graph.nodes[-1] == Node("BatchNorm", "bn", {"eps": "0.002"}, tuple(Entry(number) for number in range(5)))
    assert graph.outputs == (Entry(5),)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="plain"),
        pytest.param({"param": {"eps": "0.002", "fix_gamma": "False"}}, id="with parameters"),
        pytest.param({"attr": {"lr_mult": "2", "gamma_wd_mult": "3", "ctx_group": "dev1"}}, id="with trainer's keys"),
        pytest.param({"param": {"momentum": "0.9"}, "attr": {"__init__": "zero"}}, id="with an initialiser"),
    ],
)
def test_batch_norm_of_0_8_becomes_what_mxnet_makes_of_it(fields: Mapping[str, Json], mxnet: Mxnet) -> None:
    nodes = batch_norm(**fields)
    nodes += [operator("Activation", "relu", (3,), param={"act_type": "relu"})]

    ours, theirs = parse(document_of(nodes)), resaved(mxnet, document_of(nodes))

    assert without_initialisers(ours) == without_initialisers(theirs)


def test_two_batch_norms_of_0_8_in_a_row_become_what_mxnet_makes_of_them(mxnet: Mxnet) -> None:
    nodes = batch_norm()
    nodes += [variable("bn2_gamma"), variable("bn2_beta"), operator("BatchNorm", "bn2", (3, 4, 5))]

    graph = parse(document_of(nodes))

    assert graph == without_initialisers(resaved(mxnet, document_of(nodes)))
    assert len(graph.variables) == 9


@pytest.mark.parametrize("inputs", [(), (0,), (0, 1)])
def test_batch_norm_of_0_8_that_misses_more_than_its_statistics_gets_nothing_appended(inputs: Sequence[int]) -> None:
    nodes = [*batch_norm()[:3], operator("BatchNorm", "bn", inputs)]

    assert parse(document_of(nodes)).nodes[-1].inputs == tuple(Entry(number) for number in inputs)


def test_batch_norm_of_later_versions_gets_nothing_appended() -> None:
    graph = parse(document_of(batch_norm(), version=900))

    assert graph.variables == ("data", "bn_gamma", "bn_beta")


def convolution(**fields: Json) -> list[Document]:
    shape = {"kernel": "(1, 1)", "num_filter": "2"}
    names = ("data", "conv_weight", "conv_bias")
    node = operator("Convolution", "conv", (0, 1, 2), param=shape, **fields)
    return [*(variable(name) for name in names), node]


def test_a_key_for_an_argument_moves_to_its_variable() -> None:
    graph = parse(document_of(convolution(attr={"weight_lr_mult": "2", "bias_wd_mult": "0", "lr_mult": "3"})))

    data, weight, bias, conv = (dict(node.attributes) for node in graph.nodes)
    assert data == {}
    assert weight == {"__lr_mult__": "2"}
    assert bias == {"__wd_mult__": "0"}
    assert conv == {"kernel": "(1, 1)", "num_filter": "2", "__lr_mult__": "3"}


# MXNet 1.9.1 knows `profiler_scope` only where a symbol is made, for no older version wrote it.
@pytest.mark.parametrize("version", [None, 900, 1200, 10000])
@pytest.mark.parametrize("key", [key for key in HIDDEN_KEYS if key != "profiler_scope"])
def test_mxnet_moves_and_hides_each_key_alike(key: str, version: int | None, mxnet: Mxnet) -> None:
    nodes = convolution(attr={f"weight_{key}": "2", f"__{key}__": "4"})
    nodes += [operator("Activation", "relu", (3,), param={"act_type": "relu"}, attr={key: "5"})]
    document = document_of(nodes, version=version)

    graph = parse(document)

    assert graph == resaved(mxnet, document)
    assert graph.nodes[1].attributes == {f"__{key}__": "2"}
    assert graph.nodes[4].attributes == {"act_type": "relu", f"__{key}__": "5"}


def over_last_axis(kind: str, version: int | None) -> Document:
    return document_of([variable("data"), operator(kind, "most", (0,), attr={"axis": "-1"})], version=version)


@pytest.mark.parametrize("kind", ["argmax", "argmin"])
@pytest.mark.parametrize(
    ("version", "kept"),
    [
        pytest.param(None, False, id="0.8"),
        pytest.param(900, False, id="0.9.0"),
        pytest.param(904, False, id="0.9.4"),
        pytest.param(905, True, id="0.9.5"),
        pytest.param(10901, True, id="1.9.1"),
    ],
)
def test_an_axis_of_minus_one_meant_all_axes_before_0_9_5(kind: str, version: int | None, kept: bool) -> None:
    assert parse(over_last_axis(kind, version)).nodes[1].attributes == ({"axis": "-1"} if kept else {})


@pytest.mark.parametrize("version", [None, 900, 904, 905, 1200, 10901])
@pytest.mark.parametrize("kind", ["argmax", "argmin"])
def test_mxnet_drops_and_keeps_an_axis_of_minus_one_alike(kind: str, version: int | None, mxnet: Mxnet) -> None:
    document = over_last_axis(kind, version)

    assert parse(document) == resaved(mxnet, document)


def test_another_axis_is_kept_in_every_version() -> None:
    document = document_of([variable("data"), operator("argmax", "most", (0,), attr={"axis": "1"})])

    assert parse(document).nodes[1].attributes == {"axis": "1"}


# What some attributes need instead of a 2.
REQUIRED: Final = {
    "act_type": "relu",
    "dtype": "float16",
    "kernel": "(2, 2)",
    "mode": "constant",
    "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)",
    "pool_type": "max",
}
ALIASES: Final = {alias: signature.name for alias, signature in signatures().items() if alias != signature.name}


def with_alias(alias: str) -> Document:
    canonical = ALIASES[alias]
    one_input = canonical.endswith("_scalar") or canonical in {"Flatten", "Reshape", "SwapAxis", "Cast"}
    names = ["x"] if one_input else ["x", "y"]
    nodes = [variable(name) for name in names]
    return document_of([*nodes, operator(alias, "node", range(len(names)), attrs={})], version=10901)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_becomes_the_operators_one_name(alias: str) -> None:
    assert parse(with_alias(alias)).nodes[-1].operator == ALIASES[alias]


@pytest.mark.parametrize("alias", ALIASES)
def test_mxnet_gives_an_alias_the_same_name(alias: str, mxnet: Mxnet) -> None:
    document = with_alias(alias)
    attributes = document["nodes"][-1]["attrs"] = {"kernel": "(2, 2)"} if ALIASES[alias] == "Pooling" else {}
    while True:
        try:
            theirs = resaved(mxnet, document)
            break
        except mxnet.MXNetError as error:
            if "is not registered" in str(error):
                pytest.skip("an alias of older versions")
            required = re.search(r"Required parameter (\w+)", str(error))
            if required is None or required[1] in attributes:
                raise
            attributes[required[1]] = REQUIRED.get(required[1], "2")

    assert theirs == parse(document)


def test_an_unknown_operator_keeps_its_name() -> None:
    document = document_of([variable("data"), operator("Mystery", "node", (0,))])

    assert parse(document).nodes[1].operator == "Mystery"


def good() -> Document:
    nodes = [
        variable("data"),
        variable("conv_weight"),
        operator("Convolution", "conv", (0, 1), attrs={"kernel": "(1, 1)", "num_filter": "2", "no_bias": "True"}),
        operator("Activation", "relu", (2,), attrs={"act_type": "relu"}),
    ]
    return document_of(nodes, version=10901) | {"node_row_ptr": [0, 1, 2, 3, 4]}


def edited(*path: str | int, to: Json = None, gone: bool = False) -> str:
    """The good document with the value at `path` replaced, or gone."""
    document = good()
    place: Json = document
    for step in path[:-1]:
        place = place[step]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(document)


def extended(**fields: Json) -> str:
    return json.dumps(good() | fields)


def with_node_fields(**fields: Json) -> str:
    document = good()
    document["nodes"][3] |= fields
    return json.dumps(document)


def clashing_statistics() -> str:
    nodes = [variable("bn_moving_var"), *batch_norm()]
    nodes[4]["inputs"] = [[1, 0], [2, 0], [3, 0]]
    return json.dumps(document_of(nodes))


INPUT: Final = ("nodes", 3, "inputs", 0)
MALFORMED: Final = [
    pytest.param("", "not valid JSON", id="empty file"),
    pytest.param("not JSON", "not valid JSON", id="not JSON"),
    pytest.param(json.dumps(good())[:-1], "not valid JSON", id="cut off"),
    pytest.param(json.dumps(good()) + "{}", "not valid JSON", id="two documents"),
    pytest.param("[]", "found list", id="a list"),
    pytest.param("null", "found NoneType", id="null"),
    pytest.param(edited("heads", to=float("nan")), "NaN", id="NaN"),
    pytest.param(edited("heads", to=float("-inf")), "-Infinity", id="-Infinity"),
    pytest.param('{"nodes": [], "nodes": []}', "'nodes' appears", id="repeated key"),
    pytest.param(
        edited("nodes", 3, "attrs", to={"a": "b"}).replace('"a": "b"', '"a": "b", "a": "c"'),
        "'a' appears",
        id="repeated attribute",
    ),
    pytest.param("[" * 200_000, "more than 16", id="deep nesting"),
    pytest.param('{"nodes": ' * 100_000, "more than 16", id="deep nesting of objects"),
    pytest.param("9" * 5000, "the file: ", id="a number of 5000 digits"),
    pytest.param(extended(extra=1), "['extra']", id="unknown field at the top"),
    pytest.param(edited("nodes", gone=True), "the file: 'nodes'", id="no nodes"),
    pytest.param(edited("nodes", to={}), "the file: 'nodes'", id="nodes as an object"),
    pytest.param(edited("nodes", 3, to="relu"), "node 3: expected an object", id="node as a string"),
    pytest.param(with_node_fields(extra=1), "node 3: unknown fields ['extra']", id="unknown field of a node"),
    pytest.param(edited("nodes", 3, "op", gone=True), "node 3: 'op' is missing", id="no op"),
    pytest.param(edited("nodes", 3, "op", to=""), "node 3: 'op'", id="empty op"),
    pytest.param(edited("nodes", 3, "op", to=None), "node 3: 'op'", id="null op"),
    pytest.param(edited("nodes", 3, "name", gone=True), "node 3: 'name' is missing", id="no name"),
    pytest.param(edited("nodes", 1, "name", to=""), "node 1: 'name'", id="variable without a name"),
    pytest.param(edited("nodes", 3, "name", to=7), "node 3: 'name'", id="number as name"),
    pytest.param(edited("nodes", 1, "name", to="data"), "node 1: ", id="variables of one name"),
    pytest.param(edited("nodes", 3, "name", to="data"), "heads: ", id="output named as the input"),
    pytest.param(edited("nodes", 3, "inputs", gone=True), "node 3 (relu): 'inputs'", id="no inputs"),
    pytest.param(edited("nodes", 3, "inputs", to=2), "node 3 (relu): 'inputs'", id="inputs 2"),
    pytest.param(edited(*INPUT, to=2), "node 3 (relu), input 0: expected", id="entry as a number"),
    pytest.param(edited(*INPUT, to=[2]), "node 3 (relu), input 0: expected", id="entry of one"),
    pytest.param(edited(*INPUT, to=[2, 0, 0, 0]), "node 3 (relu), input 0: expected", id="entry of four"),
    pytest.param(edited(*INPUT, to=[True, 0]), "node 3 (relu), input 0: expected", id="node number true"),
    pytest.param(edited(*INPUT, to=[2, False]), "node 3 (relu), input 0: expected", id="output number false"),
    pytest.param(edited(*INPUT, to=[2, 0, True]), "node 3 (relu), input 0: expected", id="version true"),
    pytest.param(edited(*INPUT, to=[2.0, 0]), "node 3 (relu), input 0: expected", id="node number 2.0"),
    pytest.param(edited(*INPUT, to=["2", 0]), "node 3 (relu), input 0: expected", id="node number as a string"),
    pytest.param(edited(*INPUT, to=[-1, 0]), "node 3 (relu), input 0: expected", id="node number -1"),
    pytest.param(edited(*INPUT, to=[2, -1]), "node 3 (relu), input 0: expected", id="output number -1"),
    pytest.param(edited(*INPUT, to=[99, 0]), "node 3 (relu), input 0: refers to node 99", id="node out of range"),
    pytest.param(edited(*INPUT, to=[3, 0]), "node 3 (relu), input 0: refers to node 3", id="self reference"),
    pytest.param(
        edited("nodes", 2, "inputs", 0, to=[3, 0]), "node 2 (conv), input 0: refers to node 3", id="forward reference"
    ),
    pytest.param(
        edited("nodes", 2, "inputs", 1, to=[1, 1]),
        "node 2 (conv), input 1: refers to output 1 of the variable",
        id="second output of a variable",
    ),
    pytest.param(edited("nodes", 1, "inputs", to=[[0, 0]]), "node 1 (conv_weight): ", id="fed variable"),
    pytest.param(edited("nodes", 3, "attrs", to=[]), "node 3 (relu), attrs: ", id="attrs as a list"),
    pytest.param(edited("nodes", 3, "attrs", to=None), "node 3 (relu), attrs: ", id="attrs null"),
    pytest.param(
        edited("nodes", 2, "attrs", "num_filter", to=2),
        "node 2 (conv): attribute 'num_filter' is 2",
        id="number as attribute",
    ),
    pytest.param(
        with_node_fields(attr={"act_type": "tanh"}),
        "node 3 (relu): attribute 'act_type' is both",
        id="contradicting attributes",
    ),
    pytest.param(with_node_fields(control_deps=[2]), "node 3 (relu): control", id="control dependencies"),
    pytest.param(
        with_node_fields(backward_source_id=2), "node 3 (relu): backward_source_id 2 marks", id="gradient node"
    ),
    pytest.param(
        with_node_fields(backward_source_id=True), "node 3 (relu): backward_source_id True", id="gradient of true"
    ),
    pytest.param(
        with_node_fields(backward_source_id=-1.0), "node 3 (relu): backward_source_id -1.0", id="gradient of -1.0"
    ),
    pytest.param(
        clashing_statistics(),
        "'bn_moving_var'",
        id="name of an appended statistic",
    ),
    pytest.param(edited("arg_nodes", gone=True), "the file: 'arg_nodes'", id="no arg_nodes"),
    pytest.param(edited("arg_nodes", to=[0]), "arg_nodes: ", id="arg_nodes too short"),
    pytest.param(edited("arg_nodes", to=[0, 1, 2]), "arg_nodes: ", id="operator in arg_nodes"),
    pytest.param(edited("arg_nodes", to=[1, 0]), "arg_nodes: ", id="arg_nodes out of order"),
    pytest.param(edited("arg_nodes", to=[0, 4]), "arg_nodes: expected node numbers below 4", id="arg node 4"),
    pytest.param(edited("arg_nodes", to=[0, -3]), "arg_nodes: expected node numbers below 4", id="arg node -3"),
    pytest.param(edited("arg_nodes", to=[False, True]), "arg_nodes: expected node numbers below 4", id="arg node true"),
    pytest.param(edited("heads", gone=True), "the file: 'heads'", id="no heads"),
    pytest.param(edited("heads", to=[]), "heads: is empty", id="empty heads"),
    pytest.param(edited("heads", to=[[4, 0]]), "head 0: refers to node 4", id="head out of range"),
    pytest.param(edited("heads", to=[3]), "head 0: expected", id="head as a number"),
    pytest.param(edited("heads", to=[[3, 0], [True, 0]]), "head 1: expected", id="head of true"),
    pytest.param(edited("heads", to=[[0, 1]]), "head 0: refers to output 1 of the variable", id="head output 1"),
    pytest.param(edited("attrs", to=[]), "attrs: ", id="global attrs as a list"),
    pytest.param(edited("attrs", "other", to="x"), "attrs: unknown key 'other'", id="unknown global attribute"),
    pytest.param(edited("attrs", "is_np_shape", to=["int", 1]), "attrs.is_np_shape", id="np shapes"),
    pytest.param(
        edited("attrs", "is_np_shape", to=["bool", True]), "attrs.is_np_shape: symbols", id="np shapes as bool"
    ),
    pytest.param(
        edited("attrs", "mxnet_version", to=["int", 799]), "attrs.mxnet_version: expected 800", id="version 0.7.99"
    ),
    pytest.param(
        edited("attrs", "mxnet_version", to=["int", 11000]), "to 10999 (1.9.99), found 11000", id="version 1.10"
    ),
    pytest.param(edited("attrs", "mxnet_version", to=["int", -1]), "attrs.mxnet_version", id="version -1"),
    pytest.param(edited("attrs", "mxnet_version", to=["int", True]), "expected ['int', number]", id="version true"),
    pytest.param(edited("attrs", "mxnet_version", to=["int", 1e4]), "expected ['int', number]", id="version 1e4"),
    pytest.param(edited("attrs", "mxnet_version", to=["str", "10901"]), "expected ['int', number]", id="version text"),
    pytest.param(edited("attrs", "mxnet_version", to=["str", 10901]), "expected ['int', number]", id="version as str"),
    pytest.param(edited("attrs", "mxnet_version", to=["int"]), "expected ['int', number]", id="no version"),
    pytest.param(edited("attrs", "mxnet_version", to=["int", 10901, 0]), "expected ['int', number]", id="two versions"),
    pytest.param(edited("attrs", "mxnet_version", to=10901), "expected ['int', number]", id="bare version"),
    pytest.param(edited("node_row_ptr", to=4), "'node_row_ptr'", id="node_row_ptr as a number"),
    pytest.param(
        edited("node_row_ptr", to=[0, -1]),
        "node_row_ptr: expected rising numbers",
        id="node_row_ptr negative",
    ),
    pytest.param(
        edited("node_row_ptr", to=[0, True]),
        "node_row_ptr: expected rising numbers",
        id="node_row_ptr true",
    ),
]


@pytest.mark.parametrize(("text", "problem"), MALFORMED)
def test_a_malformed_symbol_is_refused_with_file_and_node(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "model-symbol.json"
    path.write_text(text, "utf-8")

    with pytest.raises(SymbolError) as caught:
        read_symbol(path)

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert problem in message
    assert message.endswith("; get the file again or save the symbol anew")


def test_the_document_that_the_malformed_ones_are_made_of_is_good() -> None:
    graph = parse(good())

    assert [node.name for node in graph.nodes] == ["data", "conv_weight", "conv", "relu"]
    assert graph.nodes[2].inputs == (Entry(0), Entry(1))
    assert graph.outputs == (Entry(3),)


@pytest.mark.parametrize("flag", [["int", 0], ["bool", False]])
def test_a_symbol_that_says_it_has_no_numpy_shapes_is_read(flag: Sequence[Json]) -> None:
    assert parse_symbol(edited("attrs", "is_np_shape", to=flag)) == parse(good())


def test_more_than_16_mb_are_refused() -> None:
    with pytest.raises(SymbolError, match="16777216"):
        parse_symbol(b" " * MAX_BYTES + b"{}")


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(SymbolError, match="symbol: the file"):
        parse_symbol(b'{"nodes": "\xff"}')


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SymbolError, match=re.escape(f"{tmp_path / 'absent.json'}: cannot be read")):
        read_symbol(tmp_path / "absent.json")


def test_a_graph_knows_where_it_was_read_from_but_is_equal_without_it() -> None:
    text = json.dumps(good())

    first, second = parse_symbol(text, source="a"), parse_symbol(text, source="b")

    assert (first.source, second.source) == ("a", "b")
    assert first == second
    assert first != parse_symbol(edited("heads", to=[[2, 0]]))


def places(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below: list[tuple[str | int, ...]] = []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            below += places(item, (*path, key))
    return [path, *below] if path else below


ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(path=st.sampled_from(places(good())), value=ANY_JSON)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_any_value_anywhere_gives_a_sound_graph_or_a_refusal(path: tuple[str | int, ...], value: Json) -> None:
    text = edited(*path, to=copy.deepcopy(value))
    try:
        graph = parse_symbol(text)
    except SymbolError:
        return
    for number, node in enumerate(graph.nodes):
        assert all(0 <= entry.node < number for entry in node.inputs)
        assert all(isinstance(text, str) for text in node.attributes.values())
    assert all(0 <= entry.node < len(graph.nodes) for entry in graph.outputs)


# Names and attributes of all kinds, but for what MXNet upgrades: aliases, keys for the trainer in plain words, inputs
# that 0.8 left out, arguments that changed their meaning.
PRINTABLE: Final = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
NAME: Final = st.text(PRINTABLE, min_size=1, max_size=20) | st.text(PRINTABLE, min_size=MAX_NAME, max_size=MAX_NAME)
UPGRADED: Final = {*signatures(), "null"}
OPERATOR: Final = NAME.filter(lambda name: name not in UPGRADED)
HIDDEN: Final = st.sampled_from([f"__{key}__" for key in HIDDEN_KEYS])
KEY: Final = NAME.filter(lambda name: not name.strip("_").endswith(HIDDEN_KEYS)) | HIDDEN
ATTRIBUTES: Final = st.dictionaries(KEY, st.text(max_size=20), max_size=4)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = draw(st.lists(NAME, min_size=1, max_size=12, unique=True))
    nodes: list[Node] = []
    entries: list[Entry] = []
    for number, name in enumerate(names):
        is_variable = not entries or draw(st.booleans())
        inputs = () if is_variable else tuple(draw(st.lists(st.sampled_from(entries), max_size=4)))
        nodes.append(Node("null" if is_variable else draw(OPERATOR), name, draw(ATTRIBUTES), inputs))
        entries += [Entry(number, output) for output in range(1 if is_variable else 3)]
    return Graph(tuple(nodes), tuple(draw(st.lists(st.sampled_from(entries), min_size=1, max_size=4))), "random")


@pytest.mark.parametrize("version", DIALECTS)
@given(graph=graphs())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_a_graph_written_in_any_dialect_is_read_as_the_same_graph(graph: Graph, version: int | None) -> None:
    assert parse(in_dialect(written(graph), version)) == graph
