"""BatchNorm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
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
    network_of,
    run_mxnet,
    run_onnx,
    values_for,
)
from sshconvert.export import export
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

Mxnet: TypeAlias = Any


CASES: Final = [
    case("by default", "BatchNorm", IMAGE),
    case("with gamma fixed", "BatchNorm", IMAGE, fix_gamma=True),
    case("with its gamma", "BatchNorm", IMAGE, fix_gamma=False),
    case("with eps", "BatchNorm", IMAGE, fix_gamma=False, eps=0.5),
    case("with global statistics", "BatchNorm", IMAGE, fix_gamma=False, use_global_stats=True, momentum=0.5, axis=1),
    case("of two dimensions", "BatchNorm", (3, 4)),
    case("of three dimensions", "BatchNorm", (2, 4, 5), fix_gamma=False),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(lone("BatchNorm", 5, axis="3"), "attribute axis='3' is not supported: expected 1", id="axis 3"),
    pytest.param(lone("BatchNorm", 5, axis="-1"), "attribute axis='-1'", id="axis -1"),
    pytest.param(lone("BatchNorm", 5, output_mean_var="True"), "attribute output_mean_var='True'", id="three outputs"),
    pytest.param(lone("BatchNorm", 3), "3 inputs, expected 5", id="no statistics"),
    pytest.param(lone("BatchNorm", 5, eps="small"), "attribute eps='small'", id="eps small"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(lone("BatchNorm", 5), {"data": (4,)}, "has no channels", id="vector without channels"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(lone("BatchNorm", 5), 4 * 8 * 8 * 2, id="batch normalisation"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


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
