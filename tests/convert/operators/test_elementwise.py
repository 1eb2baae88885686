"""elemwise_add."""

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

Mxnet: TypeAlias = Any


CASES: Final = [
    case("of images", "elemwise_add", IMAGE, IMAGE),
    case("of vectors", "elemwise_add", (5,), (5,)),
]


@pytest.mark.parametrize("tested", CASES)
def test_it_computes_what_mxnet_computes(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_shapes_like_mxnet(tested, mxnet)
    assert_like_mxnet(mxnet, tested.symbol(mxnet), tested.inputs, tmp_path)


@pytest.mark.parametrize("tested", CASES)
def test_with_free_dimensions_it_computes_the_same_at_every_size(tested: Case, mxnet: Mxnet, tmp_path: Path) -> None:
    assert_same_at_every_size(tested, mxnet, tmp_path)


UNSUPPORTED: Final = [
    pytest.param(lone("elemwise_add", 2, scalar="1"), "attribute scalar='1' is not known", id="add with an attribute"),
    pytest.param(lone("elemwise_add", 3), "3 inputs, expected 2", id="add of three"),
]


@pytest.mark.parametrize(("graph", "problem"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_file_and_node(graph: Graph, problem: str) -> None:
    assert_unsupported(graph, problem)


MISSHAPEN: Final = [
    pytest.param(lone("elemwise_add", 2), DATA | {"in1": (1, 4, 8, 1)}, "differ", id="add does not broadcast"),
    pytest.param(lone("elemwise_add", 2), DATA, "in1", id="add of something unknown"),
]


@pytest.mark.parametrize(("graph", "inputs", "problem"), MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
    assert_misshapen(graph, inputs, problem)
