"""Every operator against MXNet itself, through our ONNX export; and what is refused, computed and left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.export import export
from sshconvert.graph import Dimensions, Entry, Graph, Node, Shape
from sshconvert.mxnet.params import read_params
from sshconvert.network import Network, parse_symbol, read_symbol, resolve
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.registry import supported
from sshtool.demo.symbol import ssh_vgg16_symbol

Array: TypeAlias = npt.NDArray[Any]
Mxnet: TypeAlias = Any
Symbol: TypeAlias = Any
Value: TypeAlias = Any  # of an attribute, as `mx.sym` takes it
Parameter: TypeAlias = Any  # what `pytest.param` makes, a class without a public name

SSH_INPUT: Final = {"data": (1, 3, 640, 640)}


@dataclass(frozen=True)
class Case:
    """One operator over variables of these shapes, by name and in order, with the attributes given to `mx.sym`."""

    operator: str
    inputs: Mapping[str, Shape]
    attributes: Mapping[str, Value]

    def symbol(self, mxnet: Mxnet) -> Symbol:
        variables = [mxnet.sym.Variable(name) for name in self.inputs]
        return getattr(mxnet.sym, self.operator)(*variables, name="node", **self.attributes)


def case(name: str, operator: str, *shapes: Shape, **attributes: Value) -> Parameter:
    inputs = dict(zip(("data", "other", "third"), shapes, strict=False))
    return pytest.param(Case(operator, inputs, attributes), id=f"{operator} {name}")


IMAGE: Final = (2, 4, 9, 8)
CASES: Final = [
    case("3x3", "Convolution", IMAGE, kernel=(3, 3), num_filter=6),
    case("1x1 without bias", "Convolution", IMAGE, kernel=(1, 1), num_filter=3, no_bias=True),
    case("strided", "Convolution", IMAGE, kernel=(3, 2), stride=(2, 3), num_filter=2),
    case("padded", "Convolution", IMAGE, kernel=(3, 3), pad=(1, 2), num_filter=2),
    case("dilated", "Convolution", IMAGE, kernel=(3, 2), dilate=(2, 3), num_filter=2),
    case("in two groups", "Convolution", IMAGE, kernel=(3, 3), num_filter=6, num_group=2),
    case("by channel", "Convolution", IMAGE, kernel=(3, 3), num_filter=4, num_group=4, no_bias=True, pad=(1, 1)),
    case(
        "with everything",
        "Convolution",
        IMAGE,
        kernel=(2, 3),
        stride=(1, 2),
        dilate=(3, 1),
        pad=(2, 1),
        num_filter=4,
        num_group=2,
        layout="NCHW",
        workspace=512,
        cudnn_tune="off",
        cudnn_off=True,
    ),
    case("1-D", "Convolution", (2, 4, 9), kernel=(3,), stride=(2,), pad=(1,), num_filter=2),
    case("1-D dilated groups", "Convolution", (2, 4, 9), kernel=(3,), dilate=(2,), num_group=2, num_filter=2),
    case("3-D", "Convolution", (1, 2, 5, 4, 6), kernel=(3, 2, 1), stride=(2, 1, 1), pad=(1, 0, 2), num_filter=2),
    case("doubling", "Deconvolution", IMAGE, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=3),
    case(
        "doubling by channel",
        "Deconvolution",
        IMAGE,
        kernel=(4, 4),
        stride=(2, 2),
        pad=(1, 1),
        num_filter=4,
        num_group=4,
    ),
    case("in two groups", "Deconvolution", IMAGE, kernel=(3, 2), num_filter=6, num_group=2),
    case("with bias", "Deconvolution", IMAGE, kernel=(3, 3), num_filter=2, no_bias=False),
    case("strided unevenly", "Deconvolution", IMAGE, kernel=(2, 5), stride=(3, 1), pad=(0, 2), num_filter=2),
    case("adjusted", "Deconvolution", IMAGE, kernel=(3, 3), stride=(2, 3), pad=(1, 1), adj=(1, 2), num_filter=2),
    case("dilated", "Deconvolution", IMAGE, kernel=(3, 3), dilate=(2, 2), stride=(2, 2), num_filter=2),
    case("no target", "Deconvolution", IMAGE, kernel=(2, 2), target_shape=(0, 0), num_filter=2),
    case("1-D", "Deconvolution", (2, 4, 9), kernel=(4,), stride=(2,), pad=(1,), num_filter=2),
    case("max", "Pooling", IMAGE, kernel=(2, 2), stride=(2, 2), pool_type="max"),
    case("by default", "Pooling", IMAGE, kernel=(3, 2)),
    case("max padded", "Pooling", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"),
    case("max padded valid", "Pooling", (1, 1, 8, 8), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"),
    case("max valid overhang", "Pooling", (1, 1, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="valid"),
    case("max full overhang", "Pooling", (1, 1, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
    case("max full one row", "Pooling", (1, 2, 9, 8), kernel=(2, 2), stride=(2, 2), pooling_convention="full"),
    case("max full exact", "Pooling", (1, 2, 9, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
    case(
        "max full padded", "Pooling", (1, 2, 8, 10), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pooling_convention="full"
    ),
    case("avg", "Pooling", IMAGE, kernel=(2, 3), stride=(2, 1), pool_type="avg"),
    case("avg padded", "Pooling", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
    case("avg pad left over", "Pooling", (1, 2, 8, 8), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
    case(
        "avg full exact",
        "Pooling",
        (1, 2, 9, 9),
        kernel=(3, 3),
        stride=(2, 2),
        pool_type="avg",
        pooling_convention="full",
    ),
    case(
        "avg full exact padded",
        "Pooling",
        (1, 2, 9, 9),
        kernel=(3, 3),
        stride=(2, 2),
        pad=(1, 1),
        pool_type="avg",
        pooling_convention="full",
    ),
    case(
        "avg counting data only", "Pooling", IMAGE, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False
    ),
    case("avg counting padding", "Pooling", IMAGE, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=True),
    case("global max", "Pooling", IMAGE, global_pool=True, pool_type="max"),
    case("global avg", "Pooling", IMAGE, global_pool=True, pool_type="avg"),
    case(
        "global ignores its window",
        "Pooling",
        IMAGE,
        global_pool=True,
        pool_type="avg",
        kernel=(3, 3),
        pad=(1, 1),
        stride=(2, 2),
        pooling_convention="full",
    ),
    case("avg full", "Pooling", (1, 2, 8, 7), kernel=(3, 3), stride=(2, 2), pool_type="avg", pooling_convention="full"),
    case("full by one", "Pooling", (1, 2, 8, 7), kernel=(3, 3), pad=(1, 1), pooling_convention="full"),
    case("1-D", "Pooling", (2, 3, 9), kernel=(3,), stride=(2,), pad=(1,), pool_type="max"),
    case("1-D full", "Pooling", (2, 3, 9), kernel=(2,), stride=(2,), pool_type="max", pooling_convention="full"),
    case("3-D avg", "Pooling", (1, 2, 5, 4, 6), kernel=(3, 2, 2), stride=(2, 1, 2), pool_type="avg"),
    *(case(kind, "Activation", IMAGE, act_type=kind) for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")),
    case("by default", "Concat", (1, 2, 3, 4), (1, 5, 3, 4)),
    *(case(f"axis {axis}", "Concat", (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), dim=axis) for axis in range(4)),
    case("different sizes", "Concat", (1, 2, 3, 4), (1, 2, 3, 1), (1, 2, 3, 6), dim=3),
    case("of one", "Concat", (1, 2, 3, 4)),
    case("of two dimensions", "Concat", (2, 3), (1, 3), dim=0),
    case("like another", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2),
    case("like one of its size", "Crop", (2, 3, 9, 8), (2, 1, 9, 8), num_args=2),
    case("like another at an offset", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, offset=(1, 3)),
    case("like another centred", "Crop", (2, 3, 10, 9), (2, 5, 5, 4), num_args=2, center_crop=True),
    case("centred despite an offset", "Crop", (2, 3, 10, 9), (2, 5, 5, 4), num_args=2, center_crop=True, offset=(1, 1)),
    case("like another despite h_w", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, h_w=(2, 2)),
    case("of a size", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6)),
    case("of a size at an offset", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6), offset=(5, 2)),
    case("of a size centred", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 5), center_crop=True),
    case("of images", "elemwise_add", IMAGE, IMAGE),
    case("of vectors", "elemwise_add", (5,), (5,)),
    *(
        case(str(codes), "Reshape", (2, 4, 6, 5), shape=codes)
        for codes in (
            (2, 4, 30),
            (-1,),
            (0, -1),
            (0, 0, -1),
            (0, 2, -1, 0),
            (4, -1, 0, 0),
            (-2,),
            (0, -2),
            (-2, 1, 1),
            (0, -2, 1),
            (-3, 0, 0),
            (0, -3, 0),
            (-3, -2),
            (-3, -3),
            (-4, 1, 2, -2),
            (0, -4, -1, 2, -2),
            (0, -4, 2, -1, -3),
            (-1, 0, -4, 2, -1, 0),
            (-1, -4, 2, 2, 0, 0),
            (-3, -4, 2, 3, 0),
        )
    ),
    case("of vectors", "SoftmaxActivation", (2, 5, 7), mode="channel"),
    case("of images", "SoftmaxActivation", (2, 2, 6, 5), mode="channel"),
    case("by default", "BatchNorm", IMAGE),
    case("with gamma fixed", "BatchNorm", IMAGE, fix_gamma=True),
    case("with its gamma", "BatchNorm", IMAGE, fix_gamma=False),
    case("with eps", "BatchNorm", IMAGE, fix_gamma=False, eps=0.5),
    case("with global statistics", "BatchNorm", IMAGE, fix_gamma=False, use_global_stats=True, momentum=0.5, axis=1),
    case("of two dimensions", "BatchNorm", (3, 4)),
    case("of three dimensions", "BatchNorm", (2, 4, 5), fix_gamma=False),
    *(
        case(f"by {scale}", "UpSampling", (2, 3, 4, 5), scale=scale, sample_type="nearest", num_args=1)
        for scale in (1, 2, 3)
    ),
    case("with its defaults", "UpSampling", (1, 2, 3, 3), scale=2, sample_type="nearest", workspace=256),
]


def test_every_operator_of_the_registry_is_compared_with_mxnet() -> None:
    assert {parameter.values[0].operator for parameter in CASES} == {kind.name for kind in supported()}


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
    arrays = {name: mxnet.nd.array(value) for name, value in values.items()}
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


@pytest.mark.parametrize("tested", CASES)
def test_an_operator_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_all_shapes_of_an_operator_are_those_that_mxnet_infers(tested: Case, mxnet: Mxnet) -> None:
    symbol = tested.symbol(mxnet)

    network = network_of(symbol, tested.inputs)

    arguments, outputs, auxiliaries = symbol.infer_shape(**tested.inputs)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    theirs = dict(zip(names, arguments + auxiliaries, strict=True))
    assert network.parameters({}) == theirs
    assert network.output_shapes() == {"node": outputs[0]}


@pytest.mark.parametrize("size", [(1, 3, 640, 640), (2, 3, 96, 160)])
def test_all_shapes_of_the_ssh_symbol_are_those_that_mxnet_infers(size: Shape, mxnet: Mxnet) -> None:
    network = resolve(parse_symbol(ssh_vgg16_symbol()), {"data": size})

    internals = mxnet.sym.load_json(ssh_vgg16_symbol()).get_internals()
    _, theirs, _ = internals.infer_shape(data=size)

    names = [name.removesuffix("_output") for name in internals.list_outputs()]
    ours = {node.name: shape for node, (shape,) in zip(network.graph.nodes, network.shapes, strict=True)}
    assert ours == dict(zip(names, theirs, strict=True))


def test_mxnet_misplaces_a_minus_one_behind_a_split_which_is_why_it_is_refused(mxnet: Mxnet) -> None:
    reshaped = mxnet.sym.Reshape(mxnet.sym.Variable("data"), shape=(-4, 1, 2, -1, 0))

    assert reshaped.infer_shape(data=(2, 5, 1))[1] == [(1, 2, 1, 5)]  # its documentation says (1, 2, 5, 1)


# What an operator cannot do at every size, because no ONNX operator says it.
NOT_FREE: Final = "needs a fixed size"


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_an_operator_computes_the_same_at_every_size(
    tested: Case, mxnet: Mxnet, tmp_path: Path
) -> None:
    """Export once for any batch, height and width; run at two sizes, and compare with what is made for each."""
    symbol = tested.symbol(mxnet)
    images = {name: shape for name, shape in tested.inputs.items() if len(shape) == 4}
    if images.keys() != tested.inputs.keys():
        pytest.skip("only images have a size to be free")
    axis = tested.attributes.get("dim", 1) if tested.operator == "Concat" else 1  # which is not free
    sizes = [tested.inputs, *({n: _larger(s, by, axis) for n, s in images.items()} for by in ((1, 8, 16), (3, 5, 2)))]
    named: dict[str, Dimensions] = {
        name: tuple(shape[i] if i in (1, axis) else "nchw"[i] for i in range(4)) for name, shape in images.items()
    }
    try:
        networks = [network_of(symbol, inputs) for inputs in sizes]
        values = values_for(networks[0].parameters(tested.inputs))
        free = export(networks[0], values, named, name="test", larger=networks[1])
    except ShapeError as error:
        if not any(reason in str(error) for reason in (NOT_FREE, "cannot be reshaped", "does not split so")):
            raise
        pytest.skip(str(error))
    for network, inputs in zip(networks, sizes, strict=True):
        fed = values | values_for(inputs)
        static = run_onnx(export(network, values, inputs, name="test"), tmp_path, fed)
        for one, other in zip(run_onnx(free, tmp_path, fed), static, strict=True):
            np.testing.assert_array_equal(one, other)


def _larger(shape: Shape, by: tuple[int, int, int], kept: int) -> Shape:
    batch, height, width = by
    grown = (shape[0] + batch, shape[1], shape[2] + height, shape[3] + width)
    return tuple(shape[axis] if axis in (1, kept) else size for axis, size in enumerate(grown))


def test_batch_norm_with_a_fixed_gamma_ignores_the_stored_one(mxnet: Mxnet, tmp_path: Path) -> None:
    symbol = mxnet.sym.BatchNorm(mxnet.sym.Variable("data"), name="bn")
    inputs = {"data": (1, 2, 3, 3)}
    network = network_of(symbol, inputs)
    values = values_for({**inputs, **network.parameters(inputs)})
    outputs = []
    for gamma in (1, 5):
        values["bn_gamma"][:] = gamma
        outputs += run_onnx(export(network, values, inputs, name="test"), tmp_path, values)
        outputs += run_mxnet(mxnet, symbol, values)

    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=1e-5, atol=1e-5)


def test_a_gamma_that_two_layers_share_is_fixed_only_where_it_is_said(mxnet: Mxnet, tmp_path: Path) -> None:
    gamma = mxnet.sym.Variable("bn_gamma")
    fixed = mxnet.sym.BatchNorm(mxnet.sym.Variable("data"), gamma, name="bn")
    symbol = mxnet.sym.BatchNorm(fixed, gamma, fix_gamma=False, name="bn2")

    assert_like_mxnet(mxnet, symbol, {"data": (1, 2, 3, 3)}, tmp_path)


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


def deconvolution(inputs: int = 2, **attributes: str) -> Graph:
    return lone("Deconvolution", inputs, **({"kernel": "(4, 4)", "num_filter": "4"} | attributes))


def pooling(**attributes: str) -> Graph:
    return lone("Pooling", 1, **({"kernel": "(2, 2)"} | attributes))


def upsampling(**attributes: str) -> Graph:
    return lone("UpSampling", 1, **({"scale": "2", "sample_type": "nearest"} | attributes))


UNSUPPORTED: Final = [
    pytest.param(lone("LeakyReLU", 1), "node: operator LeakyReLU", id="an operator nobody knows"),
    pytest.param(convolution(layout="NHWC"), "attribute layout='NHWC' is not supported", id="NHWC"),
    pytest.param(convolution(kernel="None"), "attribute kernel is missing", id="no kernel"),
    pytest.param(convolution(num_filter="None"), "attribute num_filter is missing", id="no num_filter"),
    pytest.param(convolution(num_filter="0"), "attribute num_filter='0'", id="no filters"),
    pytest.param(convolution(kernel="(3, 0)"), "attribute kernel='(3, 0)'", id="kernel of 0"),
    pytest.param(convolution(stride="(1, 0)"), "attribute stride='(1, 0)'", id="stride of 0"),
    pytest.param(convolution(dilate="(0, 1)"), "attribute dilate='(0, 1)'", id="dilate of 0"),
    pytest.param(convolution(pad="(-1, 0)"), "attribute pad='(-1, 0)'", id="pad of -1"),
    pytest.param(convolution(stride="(2,)"), "attribute stride='(2,)' is not supported: expected 2", id="one stride"),
    pytest.param(convolution(num_group="0"), "attribute num_group='0'", id="no groups"),
    pytest.param(convolution(no_bias="maybe"), "attribute no_bias='maybe'", id="no_bias maybe"),
    pytest.param(convolution(act_type="relu"), "attribute act_type='relu' is not known", id="fused activation"),
    pytest.param(convolution(inputs=2), "2 inputs, expected 3", id="convolution without its bias"),
    pytest.param(convolution(no_bias="True"), "3 inputs, expected 2", id="convolution with a bias too many"),
    pytest.param(deconvolution(target_shape="(20, 20)"), "attribute target_shape='(20, 20)'", id="target_shape"),
    pytest.param(deconvolution(layout="NHWC"), "attribute layout='NHWC'", id="deconvolution in NHWC"),
    pytest.param(deconvolution(no_bias="False"), "2 inputs, expected 3", id="deconvolution without its bias"),
    pytest.param(deconvolution(adj="(1,)"), "attribute adj='(1,)'", id="one adj"),
    pytest.param(pooling(pool_type="sum"), "attribute pool_type='sum'", id="sum pooling"),
    pytest.param(pooling(pool_type="lp", p_value="2"), "attribute p_value='2' is not known", id="Lp pooling"),
    pytest.param(pooling(pooling_convention="same"), "attribute pooling_convention='same'", id="same pooling"),
    pytest.param(pooling(kernel="None"), "attribute kernel is missing", id="pooling without kernel"),
    pytest.param(pooling(layout="NHWC"), "attribute layout='NHWC'", id="pooling in NHWC"),
    pytest.param(lone("Activation", 1), "attribute act_type is missing", id="no act_type"),
    pytest.param(lone("Activation", 1, act_type="mish"), "attribute act_type='mish'", id="mish"),
    pytest.param(lone("Concat", 2), "attribute num_args is missing", id="concat without num_args"),
    pytest.param(lone("Concat", 2, num_args="3"), "2 inputs, expected 3", id="concat of too few"),
    pytest.param(lone("Concat", 2, num_args="2", dim="-1"), "attribute dim='-1'", id="axis from the end"),
    pytest.param(lone("Crop", 3, num_args="3"), "attribute num_args='3' is not supported", id="crop of three"),
    pytest.param(lone("Crop", 1, num_args="1", h_w="(3, 3, 3)"), "attribute h_w='(3, 3, 3)'", id="crop in 3-D"),
    pytest.param(lone("Crop", 1, num_args="2"), "1 inputs, expected 2", id="crop like nothing"),
    pytest.param(lone("elemwise_add", 2, scalar="1"), "attribute scalar='1' is not known", id="add with an attribute"),
    pytest.param(lone("elemwise_add", 3), "3 inputs, expected 2", id="add of three"),
    pytest.param(lone("Reshape", 1), "attribute shape is missing", id="reshape to nothing"),
    pytest.param(lone("Reshape", 1, target_shape="(2, 0)"), "attribute shape is missing", id="0.8's target_shape"),
    pytest.param(lone("Reshape", 1, shape="(0, -5)"), "attribute shape='(0, -5)'", id="code -5"),
    pytest.param(lone("Reshape", 1, shape="(-4, 1, -1, -1, 0)"), "a -1 behind -2 or -4", id="-1 behind -4"),
    pytest.param(lone("Reshape", 1, shape="(0, -2, -1)"), "MXNet misplaces a -1 behind", id="-1 behind -2"),
    pytest.param(lone("Reshape", 1, shape="(-1,)", reverse="True"), "attribute reverse='True'", id="reverse"),
    pytest.param(lone("SoftmaxActivation", 1), "attribute mode='instance'", id="softmax by default"),
    pytest.param(lone("SoftmaxActivation", 1, mode="instance"), "attribute mode='instance'", id="softmax of instances"),
    pytest.param(lone("BatchNorm", 5, axis="3"), "attribute axis='3' is not supported: expected 1", id="axis 3"),
    pytest.param(lone("BatchNorm", 5, axis="-1"), "attribute axis='-1'", id="axis -1"),
    pytest.param(lone("BatchNorm", 5, output_mean_var="True"), "attribute output_mean_var='True'", id="three outputs"),
    pytest.param(lone("BatchNorm", 3), "3 inputs, expected 5", id="no statistics"),
    pytest.param(lone("BatchNorm", 5, eps="small"), "attribute eps='small'", id="eps small"),
    pytest.param(upsampling(sample_type="bilinear"), "attribute sample_type='bilinear'", id="bilinear"),
    pytest.param(upsampling(sample_type="None"), "attribute sample_type is missing", id="no sample_type"),
    pytest.param(upsampling(scale="None"), "attribute scale is missing", id="no scale"),
    pytest.param(upsampling(scale="0"), "attribute scale='0'", id="scale 0"),
    pytest.param(upsampling(num_args="2"), "attribute num_args='2' is not supported: expected 1", id="two inputs"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    with pytest.raises(UnsupportedGraphError) as caught:
        resolve(graph, {"data": (1, 4, 8, 8)})

    message = str(caught.value)
    assert message.startswith("model-symbol.json: ")
    assert "node" in message.removeprefix("model-symbol.json: ")
    assert problem in message


def test_one_refusal_lists_everything_that_is_not_supported() -> None:
    graph = graph_of(
        variable("data"),
        node("LeakyReLU", "leaky", (0,), slope="0.1"),
        node("Pooling", "pool", (1,), kernel="(2, 2)", pool_type="sum", pooling_convention="same"),
        node("Activation", "relu", (2,), act_type="relu"),
        node("Reshape", "reshape", (3,), shape="(0, -9)", reverse="True", colour="red"),
        node("Mystery", "mystery", (4,)),
    )

    with pytest.raises(UnsupportedGraphError) as caught:
        resolve(graph, {"data": (1, 4, 8, 8)})

    assert str(caught.value).split("; ") == [
        "model-symbol.json: 7 things are not supported: leaky: operator LeakyReLU",
        "mystery: operator Mystery",
        "pool (Pooling): attribute pool_type='sum' is not supported: expected max or avg",
        "pool (Pooling): attribute pooling_convention='same' is not supported: expected valid or full",
        "reshape (Reshape): attribute shape='(0, -9)' is not supported: expected integers from -4 to 2147483647",
        "reshape (Reshape): attribute reverse='True' is not supported: expected False",
        "reshape (Reshape): attribute colour='red' is not known",
    ]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "Pooling"])
def test_a_kernel_that_cannot_be_read_is_the_only_problem_told(kind: str) -> None:
    filters = {} if kind == "Pooling" else {"num_filter": "4", "no_bias": "True"}
    attributes = {"kernel": "(3, x)", "stride": "(2, 2)", "pad": "(1, 1)", **filters}

    with pytest.raises(UnsupportedGraphError, match=r": 1 things are not supported: node \(\w+\): attribute kernel="):
        resolve(lone(kind, 1 if kind == "Pooling" else 2, **attributes), {"data": (1, 4, 8, 8)})


def test_a_second_output_is_refused_wherever_it_is_read() -> None:
    nodes = (variable("data"), node("Activation", "relu", (0,), act_type="relu"))
    reader = Node("Activation", "again", {"act_type": "relu"}, (Entry(1, 1),))

    with pytest.raises(UnsupportedGraphError, match="again: output 1 of relu is not supported"):
        resolve(graph_of(*nodes, reader), {"data": (1, 2)})
    with pytest.raises(UnsupportedGraphError, match="the network's outputs: output 2 of relu is not supported"):
        resolve(Graph(nodes, (Entry(1, 2),), "model-symbol.json"), {"data": (1, 2)})


def test_what_the_trainer_and_the_kernels_read_is_no_attribute_of_an_operator() -> None:
    graph = convolution(__lr_mult__="2", __init__="zero", workspace="512", cudnn_tune="off", cudnn_off="True")

    assert resolve(graph, {"data": (1, 2, 8, 8)}).output_shapes() == {"node": (1, 4, 6, 6)}


DATA: Final = {"data": (1, 4, 8, 8)}
MISSHAPEN: Final = [
    pytest.param(convolution(kernel="(9, 9)"), DATA, "a window of 9 does not fit into 8 padded by 0", id="kernel"),
    pytest.param(convolution(dilate="(4, 4)"), DATA, "a window of 9 does not fit into 8", id="dilated kernel"),
    pytest.param(pooling(kernel="(9, 2)"), DATA, "a window of 9 does not fit into 8", id="pooling window"),
    pytest.param(convolution(num_group="3"), DATA, "do not divide into 3 groups", id="groups"),
    pytest.param(deconvolution(num_group="3"), DATA, "do not divide into 3 groups", id="groups of a deconvolution"),
    pytest.param(
        convolution(num_group="3", num_filter="6"), DATA, "4 channels and 6 filters do not divide", id="channels alone"
    ),
    pytest.param(
        convolution(num_group="4", num_filter="6"), DATA, "4 channels and 6 filters do not divide", id="filters alone"
    ),
    pytest.param(convolution(kernel="(3,)"), DATA, "a 1-dimensional kernel cannot run over", id="1-D kernel"),
    pytest.param(deconvolution(kernel="(3,)"), DATA, "a 1-dimensional kernel cannot run", id="1-D deconvolution"),
    pytest.param(pooling(kernel="(3,)"), DATA, "a 1-dimensional kernel cannot run over", id="1-D pooling"),
    pytest.param(convolution(), DATA | {"in1": (4, 4, 3, 4)}, "in1 has shape (4, 4, 3, 4), expected", id="weight"),
    pytest.param(deconvolution(kernel="(1, 1)", pad="(4, 4)"), DATA, "the padding (4, 4) leaves nothing", id="pad"),
    pytest.param(deconvolution(adj="(1, 0)"), DATA, "adj", id="adj as large as the stride"),
    pytest.param(
        lone("Concat", 2, num_args="2"), DATA | {"in1": (1, 4, 8, 7)}, "differ outside axis 1", id="concat of widths"
    ),
    pytest.param(
        lone("Concat", 2, num_args="2", dim="4"),
        DATA | {"in1": (1, 4, 8, 8)},
        "axis 4 is not an axis",
        id="concat axis",
    ),
    pytest.param(lone("elemwise_add", 2), DATA | {"in1": (1, 4, 8, 1)}, "differ", id="add does not broadcast"),
    pytest.param(lone("Crop", 2, num_args="2"), DATA | {"in1": (1, 4, 9, 8)}, "is not inside", id="crop too large"),
    pytest.param(
        lone("Crop", 1, num_args="1", h_w="(8, 4)", offset="(0, 5)"), DATA, "is not inside", id="crop over the edge"
    ),
    pytest.param(
        lone("Crop", 1, num_args="1", h_w="(9, 8)", center_crop="True"), DATA, "is not inside", id="centred crop"
    ),
    pytest.param(lone("Crop", 1, num_args="1"), DATA, "a crop of (0, 0) is empty", id="crop of nothing"),
    pytest.param(lone("Crop", 1, num_args="1", h_w="(2, 2)"), {"data": (1, 4, 8)}, "only NCHW", id="crop of 3-D data"),
    pytest.param(lone("Reshape", 1, shape="(3, -1)"), DATA, "cannot be reshaped by (3, -1)", id="no multiple of 3"),
    pytest.param(lone("Reshape", 1, shape="(-1, -1)"), DATA, "cannot be reshaped", id="two of -1"),
    pytest.param(lone("Reshape", 1, shape="(256, -1, -1)"), DATA, "cannot be reshaped", id="two of -1 that are 1"),
    pytest.param(lone("Reshape", 1, shape="(4, 8, 9)"), DATA, "cannot be reshaped", id="too many elements"),
    pytest.param(lone("Reshape", 1, shape="(0, 0)"), DATA, "cannot be reshaped", id="dimensions left over"),
    pytest.param(lone("Reshape", 1, shape="(-2, 0)"), DATA, "ask for more dimensions", id="0 after the last"),
    pytest.param(lone("Reshape", 1, shape="(0, 0, 0, -3)"), DATA, "ask for more dimensions", id="-3 over the last"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 2)"), DATA, "ask for more dimensions", id="-4 with one number"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, -2, -2, -2)"), DATA, "of 4 does not split so", id="-4 by -2 and -2"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 0, -1, -2)"), DATA, "of 4 does not split so", id="-4 by 0"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, 3, -1, -2)"), DATA, "of 4 does not split so", id="-4 by 3"),
    pytest.param(lone("Reshape", 1, shape="(0, -4, -1, -1, -2)"), DATA, "does not split so", id="-4 by -1 and -1"),
    pytest.param(lone("Pooling", 1, global_pool="True"), {"data": (4,)}, "(4,) has no axes", id="pooling of a vector"),
    pytest.param(pooling(), {"data": (1, 4)}, "(1, 4) has no axes behind its channels", id="pooling of 2-D data"),
    pytest.param(upsampling(), {"data": (1, 4, 0, 8)}, "input data: shape (1, 4, 0, 8), expected sizes", id="size 0"),
    pytest.param(
        upsampling(), {"data": (1, 4, -8, 8)}, "input data: shape (1, 4, -8, 8), expected", id="negative size"
    ),
    pytest.param(upsampling(), {"data": (1, 4, 2**31, 8)}, "input data: shape", id="input beyond 31 bits"),
    pytest.param(lone("Activation", 1, act_type="relu"), {"data": ()}, "input data: 0 dimensions", id="scalar"),
    pytest.param(lone("BatchNorm", 5), {"data": (4,)}, "has no channels", id="vector without channels"),
    pytest.param(upsampling(), {"data": (1, 4, 8)}, "only NCHW data", id="upsampling of 3-D data"),
    pytest.param(lone("elemwise_add", 2), DATA, "in1", id="add of something unknown"),
    pytest.param(lone("Crop", 2, num_args="2"), DATA, "in1", id="crop like something unknown"),
    pytest.param(lone("Concat", 2, num_args="2"), DATA, "the shapes of in1 are not known", id="unknown concat"),
    pytest.param(pooling(), {"image": (1, 4, 8, 8)}, "the shape of data is not known", id="no shape for the input"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused_with_the_file(
    graph: Graph, inputs: Mapping[str, Shape], problem: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        resolve(graph, inputs)

    assert str(caught.value).startswith("model-symbol.json: ")
    assert problem in str(caught.value)


def test_a_shape_that_does_not_fit_is_refused_by_the_nodes_name() -> None:
    graph = graph_of(
        variable("data"),
        node("Pooling", "first", (0,), kernel="(2, 2)", stride="(2, 2)"),
        node("Pooling", "second", (1,), kernel="(5, 5)"),
    )

    with pytest.raises(ShapeError, match=r"model-symbol\.json: second \(Pooling\): a window of 5"):
        resolve(graph, {"data": (1, 1, 8, 8)})


def test_variables_that_nothing_reads_are_refused_by_name() -> None:
    graph = graph_of(variable("data"), variable("idle"), node("Activation", "relu", (0,), act_type="relu"))

    with pytest.raises(ShapeError, match=r"^model-symbol\.json: the shapes of idle cannot be inferred"):
        resolve(graph, DATA)


def test_weights_that_two_layers_share_must_fit_both() -> None:
    layers = (
        variable("data"),
        variable("weight"),
        node("Convolution", "first", (0, 1), kernel="(1, 1)", num_filter="4", no_bias="True"),
    )
    fits = node("Convolution", "second", (2, 1), kernel="(1, 1)", num_filter="4", no_bias="True")
    misfit = node("Convolution", "second", (2, 1), kernel="(3, 3)", num_filter="4", no_bias="True")

    assert resolve(graph_of(*layers, fits), DATA).parameters(DATA) == {"weight": (4, 4, 1, 1)}
    with pytest.raises(ShapeError, match=r"second \(Convolution\): weight has shape \(4, 4, 1, 1\), expected"):
        resolve(graph_of(*layers, misfit), DATA)


def export_zeros(graph: Graph, inputs: Mapping[str, Shape]) -> OnnxModel:
    network = resolve(graph, inputs)
    zero = np.zeros((), np.float32)
    parameters = {name: np.broadcast_to(zero, shape) for name, shape in network.parameters(inputs).items()}
    return export(network, parameters, inputs, name="test")


HANGING: Final = {"kernel": "(3, 3)", "stride": "(2, 2)", "pooling_convention": "full"}
# ONNX has no padding as wide as the window, and MXNet gives the lowest float for a window without data.
UNEXPORTABLE: Final = [
    pytest.param(pooling(**HANGING, pool_type="avg", pad="(1, 1)"), "average pooling whose padded", id="average"),
    pytest.param(
        pooling(kernel="(1, 1)", stride="(4, 4)", pooling_convention="full"), "node (Pooling)", id="window past the end"
    ),
    pytest.param(
        pooling(stride="(2, 2)", pad="(1, 1)", pooling_convention="full"), "node (Pooling)", id="window in the padding"
    ),
    pytest.param(pooling(pad="(2, 2)"), "node (Pooling)", id="padding as wide as the window"),
]


@pytest.mark.parametrize(("graph", "problem"), UNEXPORTABLE)
def test_a_pooling_that_onnx_cannot_express_is_refused_by_name(graph: Graph, problem: str) -> None:
    with pytest.raises(ShapeError) as caught:
        export_zeros(graph, {"data": (1, 1, 6, 7)})

    assert str(caught.value).startswith("model-symbol.json: ")
    assert problem in str(caught.value)


def export_free(graph: Graph) -> OnnxModel:
    """With batch, height and width free."""
    network, larger = resolve(graph, DATA), resolve(graph, {"data": (2, 4, 15, 19)})
    return export(network, {}, {"data": ("n", 4, "h", "w")}, name="test", larger=larger)


NEVER_FREE: Final = [
    pytest.param(pooling(**HANGING, pad="(1, 1)"), id="padded pooling"),
    pytest.param(pooling(**HANGING | {"stride": "(4, 4)"}), id="gaps"),
]


@pytest.mark.parametrize("graph", NEVER_FREE)
def test_what_onnx_cannot_express_at_a_free_size_is_refused_by_name(graph: Graph) -> None:
    with pytest.raises(ShapeError, match=r"^model-symbol\.json: node \(.*needs a fixed size"):
        export_free(graph)


def test_a_pooling_that_rounds_up_says_so() -> None:
    (pool,) = export_zeros(pooling(**HANGING), DATA).nodes

    assert pool.op_type == "MaxPool"
    assert {each.name: each.i for each in pool.attribute}["ceil_mode"] == 1


# Of data [1, 4, 8, 8]: the constant that is its shape, and the operators beside a Reshape where that does not say it.
RESHAPES: Final = {
    (0, 2, -1, 0): ([0, 2, -1, 0], set()),
    (-1, 0, 0, 0): ([-1, 0, 0, 0], set()),
    (0, 0, -3): ([0, 0, -1], set()),
    (0, 0, 0, -4, 2, -1): ([0, 0, 0, 2, -1], set()),
    (-2,): ([0, 0, 0, 0], set()),
    (1, 256): ([1, 256], set()),
    # OpenVINO does not count the elements of zeros beside numbers: the rest is fixed to its size.
    (1, -2): ([1, -1, 0, 0], {"Shape", "Gather", "Split"}),
    (1, 0, -4, -1, 1, 0): ([1, 0, 0, 1, -1], {"Shape", "Gather", "Split"}),
    (-3, -3): (None, {"Shape", "Gather", "Mul", "Concat", "Split"}),
    (-1, -4, 2, 2, 0, 0): ([-1, 0, 0, 0, 0], {"Shape", "Gather", "Concat", "Split"}),
}


@pytest.mark.parametrize("codes", RESHAPES, ids=str)
def test_a_reshape_names_no_size_that_it_can_leave_open(codes: Shape) -> None:
    model = export_zeros(lone("Reshape", 1, shape=str(codes)), DATA)

    shape, others = RESHAPES[codes]
    found = {node.op_type for node in model.nodes}
    assert found - {"Reshape"} == others
    assert shape is None or shape in [value.tolist() for value in model.initializers.values()], model.initializers


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


# Of data [1, 4, 8, 8]: elements of the output times operations per element.
COSTS: Final = [
    pytest.param(convolution(), 4 * 6 * 6 * (2 * 4 * 9 + 1), id="convolution"),
    pytest.param(convolution(inputs=2, no_bias="True"), 4 * 6 * 6 * 2 * 4 * 9, id="convolution without bias"),
    pytest.param(convolution(num_group="2"), 4 * 6 * 6 * (2 * 2 * 9 + 1), id="grouped convolution"),
    pytest.param(
        deconvolution(stride="(2, 2)", pad="(1, 1)", num_group="4"), 4 * 16 * 16 * 2 * 16 / 4, id="deconvolution"
    ),
    pytest.param(lone("Activation", 1, act_type="relu"), 4 * 8 * 8 * 2, id="activation"),
    pytest.param(pooling(stride="(2, 2)"), 4 * 4 * 4 * 4, id="pooling"),
    pytest.param(pooling(global_pool="True"), 4 * 64, id="global pooling"),
    pytest.param(lone("SoftmaxActivation", 1, mode="channel"), 4 * 8 * 8 * 5, id="softmax"),
    pytest.param(lone("Reshape", 1, shape="(0, -1)"), 0, id="reshape"),
    pytest.param(lone("Crop", 1, num_args="1", h_w="(2, 2)"), 0, id="crop"),
    pytest.param(upsampling(), 0, id="upsampling"),
    pytest.param(lone("BatchNorm", 5), 4 * 8 * 8 * 2, id="batch normalisation"),
]


@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_an_operators_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
