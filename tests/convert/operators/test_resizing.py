"""UpSampling."""

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


def upsampling(**attributes: str) -> Graph:
    return lone("UpSampling", 1, **({"scale": "2", "sample_type": "nearest"} | attributes))


CASES: Final = [
    *(
        case(f"by {scale}", "UpSampling", (2, 3, 4, 5), scale=scale, sample_type="nearest", num_args=1)
        for scale in (1, 2, 3)
    ),
    case("with its defaults", "UpSampling", (1, 2, 3, 3), scale=2, sample_type="nearest", workspace=256),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(upsampling(sample_type="bilinear"), "attribute sample_type='bilinear'", id="bilinear"),
    pytest.param(upsampling(sample_type="None"), "attribute sample_type is missing", id="no sample_type"),
    pytest.param(upsampling(scale="None"), "attribute scale is missing", id="no scale"),
    pytest.param(upsampling(scale="0"), "attribute scale='0'", id="scale 0"),
    pytest.param(upsampling(num_args="2"), "attribute num_args='2' is not supported: expected 1", id="two inputs"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(upsampling(), {"data": (1, 4, 0, 8)}, "input data: shape (1, 4, 0, 8), expected sizes", id="size 0"),
    pytest.param(
        upsampling(), {"data": (1, 4, -8, 8)}, "input data: shape (1, 4, -8, 8), expected", id="negative size"
    ),
    pytest.param(upsampling(), {"data": (1, 4, 2**31, 8)}, "input data: shape", id="input beyond 31 bits"),
    pytest.param(upsampling(), {"data": (1, 4, 8)}, "NCHW", id="upsampling of 3-D data"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)


COSTS: Final = [
    pytest.param(upsampling(), 0, id="upsampling"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
