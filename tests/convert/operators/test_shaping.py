"""Flatten, Reshape and squeeze."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, IMAGE, export_zeros, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import SHAPES

Mxnet: TypeAlias = Any


@st.composite
def _squeeze(draw: DrawFn) -> Case:
    shape = draw(st.lists(st.sampled_from((1, 1, 2, 3)), min_size=1, max_size=5).map(tuple))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = draw(st.sets(st.sampled_from(ones))) if ones else set()
    signed = tuple(draw(st.sampled_from((axis, axis - len(shape)))) for axis in sorted(axes))
    return Case("squeeze", {"data": shape}, {"axis": signed or None})


class TestShaping(OperatorSuite):
    cases = (
        *(
            suite_case(str(codes), "Reshape", (2, 4, 6, 5), shape=codes)
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
        suite_case("of an image", "Flatten", IMAGE),
        suite_case("of a matrix", "flatten", (2, 3)),
        suite_case("of a vector", "Flatten", (3,)),
        suite_case("of three dimensions", "Flatten", (2, 3, 2)),
        suite_case("of all", "squeeze", (1, 2, 1, 3)),
        suite_case("of None", "squeeze", (1, 2, 1, 3), axis=None),
        suite_case("of one axis", "squeeze", (2, 1, 3), axis=1),
        suite_case("of two axes", "squeeze", (2, 1, 3, 1), axis=(1, -1)),
        suite_case("of the last axis", "squeeze", (2, 1), axis=-1),
        suite_case("to one number", "squeeze", (1, 1, 1)),
        suite_case("of the only axis", "squeeze", (1,), axis=0),
        suite_case("of nothing", "squeeze", (2, 3)),
    )
    unsupported = (
        pytest.param(lone("Reshape", 1), "attribute shape is missing", id="reshape to nothing"),
        pytest.param(lone("Reshape", 1, target_shape="(2, 0)"), "attribute shape is missing", id="0.8's target_shape"),
        pytest.param(lone("Reshape", 1, shape="(0, -5)"), "attribute shape='(0, -5)'", id="code -5"),
        pytest.param(lone("Reshape", 1, shape="(-4, 1, -1, -1, 0)"), "misplaces a -1", id="-1 behind -4"),
        pytest.param(lone("Reshape", 1, shape="(0, -2, -1)"), "MXNet misplaces a -1", id="-1 behind -2"),
        pytest.param(lone("Reshape", 1, shape="(-1,)", reverse="True"), "attribute reverse='True'", id="reverse"),
        pytest.param(lone("Flatten", 1, axis="2"), "attribute axis='2' is not known", id="axis of Flatten"),
        pytest.param(lone("squeeze", 1, axis="(1, x)"), "attribute axis='(1, x)'", id="axes of letters"),
    )
    misshapen = (
        pytest.param(lone("Reshape", 1, shape="(3, -1)"), DATA, "cannot be reshaped by (3, -1)", id="no multiple of 3"),
        pytest.param(lone("Reshape", 1, shape="(-1, -1)"), DATA, "cannot be reshaped", id="two of -1"),
        pytest.param(lone("Reshape", 1, shape="(256, -1, -1)"), DATA, "cannot be reshaped", id="two of -1 that are 1"),
        pytest.param(lone("Reshape", 1, shape="(4, 8, 9)"), DATA, "cannot be reshaped", id="too many elements"),
        pytest.param(lone("Reshape", 1, shape="(0, 0)"), DATA, "cannot be reshaped", id="dimensions left over"),
        pytest.param(lone("Reshape", 1, shape="(-2, 0)"), DATA, "more dimensions than", id="0 after the last"),
        pytest.param(lone("Reshape", 1, shape="(0, 0, 0, -3)"), DATA, "more dimensions than", id="-3 over the last"),
        pytest.param(lone("Reshape", 1, shape="(0, -4, 2)"), DATA, "more dimensions than", id="-4 with one number"),
        pytest.param(
            lone("Reshape", 1, shape="(0, -4, -2, -2, -2)"), DATA, "of 4 does not split", id="-4 by -2 and -2"
        ),
        pytest.param(lone("Reshape", 1, shape="(0, -4, 0, -1, -2)"), DATA, "of 4 does not split", id="-4 by 0"),
        pytest.param(lone("Reshape", 1, shape="(0, -4, 3, -1, -2)"), DATA, "of 4 does not split", id="-4 by 3"),
        pytest.param(lone("Reshape", 1, shape="(0, -4, -1, -1, -2)"), DATA, "does not split", id="-4 by -1 and -1"),
        pytest.param(lone("squeeze", 1, axis="1"), DATA, "are not all 1", id="squeeze of 4"),
        pytest.param(lone("squeeze", 1, axis="(0, -4)"), DATA, "repeat", id="squeeze of an axis twice"),
        pytest.param(lone("squeeze", 1, axis="4"), DATA, "axis 4 is not", id="squeeze of axis 4"),
    )
    random = st.one_of(_squeeze(), SHAPES.map(lambda shape: Case("Flatten", {"data": shape})))


def test_another_shape_counts_no_operations() -> None:
    assert resolve(lone("Reshape", 1, shape="(0, -1)"), DATA).flops() == 0


def test_mxnet_misplaces_a_minus_one_behind_a_split_which_is_why_it_is_refused(mxnet: Mxnet) -> None:
    reshaped = mxnet.sym.Reshape(mxnet.sym.Variable("data"), shape=(-4, 1, 2, -1, 0))

    assert reshaped.infer_shape(data=(2, 5, 1))[1] == [(1, 2, 1, 5)]  # its documentation says (1, 2, 5, 1)


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
