"""Activation and SoftmaxActivation."""

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
    lone,
)
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

Mxnet: TypeAlias = Any


CASES: Final = [
    *(case(kind, "Activation", IMAGE, act_type=kind) for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")),
    case("of vectors", "SoftmaxActivation", (2, 5, 7), mode="channel"),
    case("of images", "SoftmaxActivation", (2, 2, 6, 5), mode="channel"),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(lone("Activation", 1), "attribute act_type is missing", id="no act_type"),
    pytest.param(lone("Activation", 1, act_type="mish"), "attribute act_type='mish'", id="mish"),
    pytest.param(lone("SoftmaxActivation", 1), "attribute mode='instance'", id="softmax by default"),
    pytest.param(lone("SoftmaxActivation", 1, mode="instance"), "attribute mode='instance'", id="softmax of instances"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(lone("Activation", 1, act_type="relu"), {"data": ()}, "input data: 0 dimensions", id="scalar"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(lone("Activation", 1, act_type="relu"), 4 * 8 * 8 * 2, id="activation"),
    pytest.param(lone("SoftmaxActivation", 1, mode="channel"), 4 * 8 * 8 * 5, id="softmax"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
