"""Flatten, Reshape, reshape_like, expand_dims and squeeze."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, IMAGE, export_zeros, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import SHAPES, shapes

Mxnet: TypeAlias = Any


@st.composite
def _squeeze(draw: DrawFn) -> Case:
    shape = draw(st.lists(st.sampled_from((1, 1, 2, 3)), min_size=1, max_size=5).map(tuple))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = draw(st.sets(st.sampled_from(ones))) if ones else set()
    signed = tuple(draw(st.sampled_from((axis, axis - len(shape)))) for axis in sorted(axes))
    return Case("squeeze", {"data": shape}, {"axis": signed or None})


@st.composite
def _reshape(draw: DrawFn) -> Case:
    """Codes in the order in which MXNet reads them. At most one size is open."""
    reverse = draw(st.booleans())
    shape = draw(shapes(most=4, largest=6))
    left, codes, open_size = list(shape[::-1] if reverse else shape), [], False
    while left:
        kind = draw(st.sampled_from(("keep", "size", "rest", "join", "split", "open", "one")))
        if kind == "join" and len(left) > 1:
            codes.append(-3)
            left = left[2:]
        elif kind == "split":
            divisor = draw(st.sampled_from([number for number in range(1, 7) if left[0] % number == 0]))
            pair = [divisor, left[0] // divisor]
            codes += [-4, *draw(st.sampled_from((pair, [-1, pair[1]], [pair[0], -1])))]
            left = left[1:]
        elif kind == "rest" and draw(st.booleans()):
            codes.append(-2)
            left = []
        elif kind == "open" and not open_size and not {-2, -4} & set(codes):
            codes.append(-1)
            left, open_size = left[1:], True
        else:
            codes.append(left[0] if kind == "size" else 0)
            left = left[1:]
    codes += [1] * draw(st.integers(0, 1))
    return Case("Reshape", {"data": shape}, {"shape": tuple(codes[::-1] if reverse else codes), "reverse": reverse})


@st.composite
def _reshape_like(draw: DrawFn) -> Case:
    kept, middle, behind = draw(shapes(most=3)), draw(shapes(most=2)), draw(st.lists(st.integers(1, 3), max_size=2))
    product = 1
    for size in middle:
        product *= size
    data, like = (*kept, product, *behind), (*draw(shapes(most=2)), *middle)
    ends = {"lhs_begin": len(kept), "lhs_end": len(kept) + 1, "rhs_begin": len(like) - len(middle), "rhs_end": None}
    if draw(st.booleans()):
        ends |= {"lhs_begin": len(kept) - len(data), "rhs_begin": -len(middle)}
    return Case("reshape_like", {"data": data, "other": like}, ends)


@st.composite
def _expand(draw: DrawFn) -> Case:
    shape = draw(SHAPES)
    return Case("expand_dims", {"data": shape}, {"axis": draw(st.integers(-len(shape) - 1, len(shape)))})


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
        *(
            suite_case(f"{codes} in reverse", "Reshape", (2, 4, 6, 5), shape=codes, reverse=True)
            for codes in (
                (-1, 0),
                (0, -1),
                (-1, 0, 0, 0),
                (8, 0, 0),
                (-2, 5),
                (-2, -3),
                (-3, 0, 0),
                (0, -3, 0),
                (-2, 5, -1, -4),
                (-2, -1, 3, -4, 0),
                (0, 0, 2, 3, -4, 0),
                (0, 0, 2, 3, -4, -1),
                (1, -2),
            )
        ),
        suite_case("of a number", "reshape", (2, 4, 6), shape=-1),
        suite_case("of 0.8", "Reshape", (2, 4, 6), target_shape=(3, 0)),
        suite_case("of 0.8 that keeps the first", "Reshape", (2, 4, 6), target_shape=(9, 0, 3), keep_highest=True),
        suite_case("of 0.8 without an open size", "Reshape", (2, 4, 6), target_shape=(6, 8)),
        suite_case("despite 0.8's", "Reshape", (2, 4, 6), shape=(0, -1), target_shape=(6, 8)),
        suite_case("of all", "reshape_like", (4, 6), (3, 8)),
        suite_case("from the second", "reshape_like", (2, 12), (2, 3, 4), lhs_begin=1, rhs_begin=1),
        suite_case("of the first", "reshape_like", (6, 7), (3, 2, 4), lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2),
        suite_case("from the back", "reshape_like", (6, 7), (3, 2, 4), lhs_end=-1, rhs_begin=-3, rhs_end=-1),
        suite_case("of the middle", "reshape_like", (2, 6, 5), (3, 2), lhs_begin=1, lhs_end=2, rhs_begin=None),
        *(suite_case(f"at {axis}", "expand_dims", (4, 5), axis=axis) for axis in range(-3, 3)),
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
        pytest.param(lone("Reshape", 1, shape="()"), "attribute shape is missing", id="reshape to an empty shape"),
        pytest.param(lone("Reshape", 1, target_shape="(2, -1)"), "attribute target_shape='(2, -1)'", id="target -1"),
        pytest.param(lone("Reshape", 1, shape="(-1, 0, -2)", reverse="1"), "misplaces a -1", id="-1 in front of -2"),
        pytest.param(lone("reshape_like", 2, lhs_start="1"), "attribute lhs_start='1' is not known", id="lhs_start"),
        pytest.param(lone("expand_dims", 1), "attribute axis is missing", id="expand_dims nowhere"),
        pytest.param(lone("Reshape", 1, shape="(0, -5)"), "attribute shape='(0, -5)'", id="code -5"),
        pytest.param(lone("Reshape", 1, shape="(-4, 1, -1, -1, 0)"), "misplaces a -1", id="-1 behind -4"),
        pytest.param(lone("Reshape", 1, shape="(0, -2, -1)"), "MXNet misplaces a -1", id="-1 behind -2"),
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
        pytest.param(lone("Reshape", 1, target_shape="(0, 0)"), DATA, "cannot be reshaped", id="two open sizes"),
        pytest.param(lone("Reshape", 1, shape="(0, -2)", reverse="1"), DATA, "more dimensions", id="0 in front of -2"),
        pytest.param(lone("reshape_like", 2), DATA | {"in1": (1, 4, 8, 7)}, "cannot be reshaped", id="like fewer"),
        pytest.param(
            lone("reshape_like", 2, lhs_begin="2", lhs_end="2"),
            DATA | {"in1": (4,)},
            "are no dimensions",
            id="no range",
        ),
        pytest.param(
            lone("reshape_like", 2, lhs_end="5"), DATA | {"in1": (4,)}, "None to 5 are no dimensions", id="too long"
        ),
        pytest.param(lone("expand_dims", 1, axis="5"), DATA, "axis 5 is not", id="expand_dims at 5"),
        pytest.param(lone("squeeze", 1, axis="1"), DATA, "are not all 1", id="squeeze of 4"),
        pytest.param(lone("squeeze", 1, axis="(0, -4)"), DATA, "repeat", id="squeeze of an axis twice"),
        pytest.param(lone("squeeze", 1, axis="4"), DATA, "axis 4 is not", id="squeeze of axis 4"),
    )
    random = st.one_of(
        _squeeze(), _reshape(), _reshape_like(), _expand(), SHAPES.map(lambda shape: Case("Flatten", {"data": shape}))
    )


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
