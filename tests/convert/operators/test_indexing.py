"""Crop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from one_node import (
    DATA,
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
    case("like another", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2),
    case("like one of its size", "Crop", (2, 3, 9, 8), (2, 1, 9, 8), num_args=2),
    case("like another at an offset", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, offset=(1, 3)),
    case("like another centred", "Crop", (2, 3, 10, 9), (2, 5, 5, 4), num_args=2, center_crop=True),
    case("centred despite an offset", "Crop", (2, 3, 10, 9), (2, 5, 5, 4), num_args=2, center_crop=True, offset=(1, 1)),
    case("like another despite h_w", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, h_w=(2, 2)),
    case("of a size", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6)),
    case("of a size at an offset", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6), offset=(5, 2)),
    case("of a size centred", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 5), center_crop=True),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(lone("Crop", 3, num_args="3"), "attribute num_args='3' is not supported", id="crop of three"),
    pytest.param(lone("Crop", 1, num_args="1", h_w="(3, 3, 3)"), "attribute h_w='(3, 3, 3)'", id="crop in 3-D"),
    pytest.param(lone("Crop", 1, num_args="2"), "1 inputs, expected 2", id="crop like nothing"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(lone("Crop", 2, num_args="2"), DATA | {"in1": (1, 4, 9, 8)}, "is not inside", id="crop too large"),
    pytest.param(
        lone("Crop", 1, num_args="1", h_w="(8, 4)", offset="(0, 5)"), DATA, "is not inside", id="crop over the edge"
    ),
    pytest.param(
        lone("Crop", 1, num_args="1", h_w="(9, 8)", center_crop="True"), DATA, "is not inside", id="centred crop"
    ),
    pytest.param(lone("Crop", 1, num_args="1"), DATA, "a crop of (0, 0) is empty", id="crop of nothing"),
    pytest.param(lone("Crop", 1, num_args="1", h_w="(2, 2)"), {"data": (1, 4, 8)}, "NCHW", id="crop of 3-D data"),
    pytest.param(lone("Crop", 2, num_args="2"), DATA, "in1", id="crop like something unknown"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(lone("Crop", 1, num_args="1", h_w="(2, 2)"), 0, id="crop"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
