"""Convolution and deconvolution."""

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
    graph_of,
    lone,
    node,
    variable,
)
from sshconvert.errors import ShapeError
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

Mxnet: TypeAlias = Any


def convolution(inputs: int = 3, **attributes: str) -> Graph:
    return lone("Convolution", inputs, **({"kernel": "(3, 3)", "num_filter": "4"} | attributes))


def deconvolution(inputs: int = 2, **attributes: str) -> Graph:
    return lone("Deconvolution", inputs, **({"kernel": "(4, 4)", "num_filter": "4"} | attributes))


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
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
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
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(convolution(kernel="(9, 9)"), DATA, "a window of 9 does not fit into 8 padded by 0", id="kernel"),
    pytest.param(convolution(dilate="(4, 4)"), DATA, "a window of 9 does not fit into 8", id="dilated kernel"),
    pytest.param(convolution(num_group="3"), DATA, "3 groups", id="groups"),
    pytest.param(deconvolution(num_group="3"), DATA, "3 groups", id="groups of a deconvolution"),
    pytest.param(
        convolution(num_group="3", num_filter="6"), DATA, "4 channels and 6 filters do not divide", id="channels alone"
    ),
    pytest.param(
        convolution(num_group="4", num_filter="6"), DATA, "4 channels and 6 filters do not divide", id="filters alone"
    ),
    pytest.param(convolution(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D kernel"),
    pytest.param(deconvolution(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D deconvolution"),
    pytest.param(convolution(), DATA | {"in1": (4, 4, 3, 4)}, "in1 has shape (4, 4, 3, 4), expected", id="weight"),
    pytest.param(deconvolution(kernel="(1, 1)", pad="(4, 4)"), DATA, "the padding (4, 4)", id="pad"),
    pytest.param(deconvolution(adj="(1, 0)"), DATA, "adj", id="adj as large as the stride"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(convolution(), 4 * 6 * 6 * (2 * 4 * 9 + 1), id="convolution"),
    pytest.param(convolution(inputs=2, no_bias="True"), 4 * 6 * 6 * 2 * 4 * 9, id="convolution without bias"),
    pytest.param(convolution(num_group="2"), 4 * 6 * 6 * (2 * 2 * 9 + 1), id="grouped convolution"),
    pytest.param(
        deconvolution(stride="(2, 2)", pad="(1, 1)", num_group="4"), 4 * 16 * 16 * 2 * 16 / 4, id="deconvolution"
    ),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


def test_weights_that_two_layers_share_must_fit_both() -> None:
    layers = (
        variable("data"),
        variable("weight"),
        node("Convolution", "first", (0, 1), kernel="(1, 1)", num_filter="4", no_bias="True"),
    )
    fits = node("Convolution", "second", (2, 1), kernel="(1, 1)", num_filter="4", no_bias="True")
    misfit = node("Convolution", "second", (2, 1), kernel="(3, 3)", num_filter="4", no_bias="True")

    assert resolve(graph_of(*layers, fits), DATA).parameters(DATA) == {"weight": (4, 4, 1, 1)}
    with pytest.raises(ShapeError, match=r"second.*4, 4, 1, 1"):
        resolve(graph_of(*layers, misfit), DATA)
