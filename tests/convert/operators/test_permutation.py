"""Transpose, SwapAxis, depth_to_space and space_to_depth."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import axes_of, shapes


@st.composite
def _transpose(draw: DrawFn) -> Case:
    shape = draw(shapes(most=6))
    axes = draw(st.one_of(st.just(()), st.permutations(range(len(shape))).map(tuple)))
    return Case("transpose", {"data": shape}, {"axes": axes})


@st.composite
def _swap(draw: DrawFn) -> Case:
    shape = draw(shapes(least=2))
    first, second = draw(st.tuples(axes_of(shape), axes_of(shape)).filter(lambda pair: pair[0] != pair[1]))
    return Case(draw(st.sampled_from(("SwapAxis", "swapaxes"))), {"data": shape}, {"dim1": first, "dim2": second})


@st.composite
def _blocks(draw: DrawFn) -> Case:
    block = draw(st.integers(1, 3))
    number, channels, height, width = draw(shapes(least=4, most=4, largest=3))
    if draw(st.booleans()):
        data = {"data": (number, channels * block**2, height, width)}
        return Case("depth_to_space", data, {"block_size": block})
    return Case("space_to_depth", {"data": (number, channels, height * block, width * block)}, {"block_size": block})


class TestPermutation(OperatorSuite):
    cases = (
        suite_case("to the last", "transpose", IMAGE, axes=(0, 2, 3, 1)),
        suite_case("to the first", "transpose", IMAGE, axes=(3, 0, 1, 2)),
        suite_case("in reverse", "transpose", IMAGE),
        suite_case("by an empty order", "transpose", (2, 3), axes=()),
        suite_case("of one dimension", "transpose", (5,), axes=(0,)),
        suite_case("of six dimensions", "transpose", (1, 2, 3, 2, 4, 2), axes=(0, 1, 4, 2, 5, 3)),
        pytest.param(Case("transpose", {"data": (2, 3)}, {}, {"data": "int64"}), id="transpose of integers"),
        suite_case("of two axes", "SwapAxis", IMAGE, dim1=1, dim2=2),
        suite_case("of channels", "depth_to_space", (2, 12, 2, 3), block_size=2),
        suite_case("of three", "depth_to_space", (1, 9, 2, 2), block_size=3),
        suite_case("of one", "depth_to_space", (1, 3, 2, 2), block_size=1),
        suite_case("of pixels", "space_to_depth", (2, 3, 4, 6), block_size=2),
        suite_case("of three", "space_to_depth", (1, 2, 3, 6), block_size=3),
        suite_case("from the end", "swapaxes", IMAGE, dim1=0, dim2=-1),
    )
    unsupported = (
        pytest.param(lone("transpose", 1, axes="(0, -1)"), "attribute axes='(0, -1)'", id="a negative axis"),
        pytest.param(lone("depth_to_space", 1), "attribute block_size is missing", id="no block_size"),
        pytest.param(lone("space_to_depth", 1, block_size="0"), "attribute block_size='0'", id="block_size 0"),
        pytest.param(lone("SwapAxis", 1, dim1="x"), "attribute dim1='x'", id="an axis of letters"),
        pytest.param(lone("SwapAxis", 1, axes="(0, 1)"), "attribute axes='(0, 1)' is not known", id="axes of SwapAxis"),
    )
    misshapen = (
        pytest.param(lone("transpose", 1, axes="(0, 1)"), DATA, "are not the axes of", id="too few axes"),
        pytest.param(lone("transpose", 1, axes="(0, 1, 2, 2)"), DATA, "are not the axes of", id="an axis twice"),
        pytest.param(lone("depth_to_space", 1, block_size="3"), DATA, "4 channels do not divide", id="4 channels"),
        pytest.param(lone("space_to_depth", 1, block_size="3"), DATA, "does not divide", id="8 pixels"),
        pytest.param(lone("depth_to_space", 1, block_size="2"), {"data": (4, 2, 2)}, "4 dimensions", id="3-D channels"),
        pytest.param(lone("space_to_depth", 1, block_size="2"), {"data": (4, 2, 2)}, "4 dimensions", id="3-D pixels"),
        pytest.param(lone("SwapAxis", 1, dim1="4"), DATA, "axis 4 is not an axis", id="axis 4"),
    )
    random = st.one_of(_transpose(), _swap(), _blocks())


def test_a_permutation_counts_no_operations() -> None:
    assert resolve(lone("transpose", 1), DATA).flops() == 0
