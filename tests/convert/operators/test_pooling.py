"""Pooling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from one_node import (
    DATA,
    IMAGE,
    Case,
    assert_like_mxnet,
    assert_misshapen,
    assert_same_at_every_size,
    assert_shapes_like_mxnet,
    assert_unsupported,
    case,
    export_zeros,
    lone,
    pooling,
)
from sshconvert.errors import ShapeError
from sshconvert.export import export
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve
from sshconvert.onnx.model import OnnxModel

Mxnet: TypeAlias = Any


CASES: Final = [
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
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(pooling(pool_type="sum"), "attribute pool_type='sum'", id="sum pooling"),
    pytest.param(pooling(pool_type="lp", p_value="2"), "attribute p_value='2' is not known", id="Lp pooling"),
    pytest.param(pooling(pooling_convention="same"), "attribute pooling_convention='same'", id="same pooling"),
    pytest.param(pooling(kernel="None"), "attribute kernel is missing", id="pooling without kernel"),
    pytest.param(pooling(layout="NHWC"), "attribute layout='NHWC'", id="pooling in NHWC"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(pooling(kernel="(9, 2)"), DATA, "a window of 9 does not fit into 8", id="pooling window"),
    pytest.param(pooling(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D pooling"),
    pytest.param(lone("Pooling", 1, global_pool="True"), {"data": (4,)}, "(4,) has no", id="pooling of a vector"),
    pytest.param(pooling(), {"data": (1, 4)}, "(1, 4) has no spatial axes", id="pooling of 2-D data"),
    pytest.param(pooling(), {"image": (1, 4, 8, 8)}, "the shape of data is not known", id="no shape for the input"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(pooling(stride="(2, 2)"), 4 * 4 * 4 * 4, id="pooling"),
    pytest.param(pooling(global_pool="True"), 4 * 64, id="global pooling"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


HANGING: Final = {"kernel": "(3, 3)", "stride": "(2, 2)", "pooling_convention": "full"}


UNEXPORTABLE: Final = [
    pytest.param(pooling(**HANGING, pool_type="avg", pad="(1, 1)"), "average pooling", id="average"),
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
