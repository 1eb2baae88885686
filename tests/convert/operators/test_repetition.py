"""Tile, repeat and the broadcasts."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import SHAPES, axes_of, shapes

ONES = {"data": (1, 4, 1)}


@st.composite
def _tile(draw: DrawFn) -> Case:
    """At most two counts: MXNet fails if it needs more than five dimensions for the sizes and counts above 1."""
    counts = draw(st.lists(st.integers(1, 3), max_size=4).filter(lambda counts: sum(n > 1 for n in counts) <= 2))
    return Case("tile", {"data": draw(shapes(most=3))}, {"reps": tuple(counts)})


@st.composite
def _repeat(draw: DrawFn) -> Case:
    shape = draw(SHAPES)
    axis = draw(st.one_of(st.none(), axes_of(shape)))
    return Case("repeat", {"data": shape}, {"repeats": draw(st.integers(1, 4)), "axis": axis})


@st.composite
def _broadcast(draw: DrawFn) -> Case:
    data = draw(st.lists(st.sampled_from((1, 1, 2, 3)), min_size=1, max_size=5).map(tuple))
    ones = [axis for axis, size in enumerate(data) if size == 1]
    new = tuple(draw(st.integers(1, 4)) if size == 1 else size for size in data)
    axes = tuple(draw(st.lists(st.sampled_from(ones), unique=True))) if ones else ()
    kind = draw(st.sampled_from(("axis", "axes", "to", "like", "like axes")))
    if kind in ("axis", "axes"):
        return Case(f"broadcast_{kind}", {"data": data}, {"axis": axes, "size": tuple(new[axis] for axis in axes)})
    if kind == "to":
        shape = tuple(
            draw(st.sampled_from((0, size))) if size == old else size for old, size in zip(data, new, strict=True)
        )
        return Case("broadcast_to", {"data": data}, {"shape": shape})
    if kind == "like" or not axes:
        return Case("broadcast_like", {"data": data, "other": new})
    like = tuple(draw(st.lists(axes_of(new), min_size=len(axes), max_size=len(axes))))
    return Case("broadcast_like", {"data": data, "other": new}, {"lhs_axes": axes, "rhs_axes": like})


class TestRepetition(OperatorSuite):
    cases = (
        suite_case("of the last axis", "tile", (2, 3), reps=(2,)),
        suite_case("of a number", "tile", (2, 3), reps=2),
        suite_case("of each axis", "tile", (2, 3), reps=(2, 3)),
        suite_case("of more axes", "tile", (2, 3), reps=(4, 1, 2, 1)),
        suite_case("of nothing", "tile", (2, 3), reps=()),
        suite_case("once", "tile", (2, 3), reps=(1, 1)),
        pytest.param(Case("tile", {"data": (2, 3)}, {"reps": (2, 2)}, {"data": "int64"}), id="tile of integers"),
        suite_case("of all", "repeat", (2, 3), repeats=2),
        suite_case("of all of None", "repeat", (2, 3), repeats=2, axis=None),
        *(suite_case(f"along {axis}", "repeat", (2, 3, 4), repeats=3, axis=axis) for axis in range(-3, 3)),
        suite_case("along an axis of 1", "repeat", (2, 1, 4), repeats=3, axis=1),
        suite_case("along a batch of 1", "repeat", (1, 4), repeats=3, axis=0),
        suite_case("once", "repeat", (2, 3), repeats=1, axis=0),
        suite_case("of an axis", "broadcast_axis", (2, 1, 3), axis=1, size=4),
        suite_case("of two axes", "broadcast_axes", (1, 2, 1), axis=(2, 0), size=(3, 4)),
        suite_case("of no axis", "broadcast_axis", (1, 2)),
        suite_case("of one size", "broadcast_to", (2, 1, 3), shape=(0, 4, 0)),
        suite_case("of all sizes", "broadcast_to", (1, 4), shape=(3, 4)),
        suite_case("of all sizes", "broadcast_like", (1, 4), (3, 4)),
        suite_case("of an axis", "broadcast_like", (1, 4), (3, 7), lhs_axes=(0,), rhs_axes=(-1,)),
        suite_case("of two axes", "broadcast_like", (1, 4, 1), (3, 7), lhs_axes=(-1, 0), rhs_axes=(0, 1)),
        suite_case("of axes without partners", "broadcast_like", (1, 4), (3, 4), lhs_axes=(0,)),
        suite_case("of a batch", "broadcast_like", (2, 1), (2, 3)),
    )
    unsupported = (
        pytest.param(lone("tile", 1, reps="(0, 1)"), "attribute reps='(0, 1)'", id="tile of 0"),
        pytest.param(lone("repeat", 1), "attribute repeats is missing", id="repeat without a number"),
        pytest.param(lone("repeat", 1, repeats="0"), "attribute repeats='0'", id="repeat of 0"),
        pytest.param(lone("broadcast_axis", 1, axis="-1", size="2"), "attribute axis='-1'", id="axis from the back"),
        pytest.param(lone("broadcast_axis", 1, axis="1"), "differ in length", id="axis without a size"),
        pytest.param(lone("broadcast_to", 1), "attribute shape is missing", id="broadcast to nothing"),
        pytest.param(
            lone("broadcast_like", 2, lhs_axes="(0,)", rhs_axes="(0, 1)"), "differ in length", id="more axes of one"
        ),
    )
    misshapen = (
        pytest.param(lone("repeat", 1, repeats="2", axis="4"), DATA, "axis 4 is not", id="repeat along axis 4"),
        pytest.param(
            lone("broadcast_axis", 1, axis="1", size="4"), ONES, "axis 1 of (1, 4, 1) is not 1", id="axis of 4"
        ),
        pytest.param(lone("broadcast_axis", 1, axis="3", size="4"), ONES, "axis 3 is not", id="axis 3"),
        pytest.param(lone("broadcast_axis", 1, axis="(0, 0)", size="(4, 4)"), ONES, "repeat", id="axis twice"),
        pytest.param(lone("broadcast_to", 1, shape="(2, 4)"), ONES, "cannot be broadcast to (2, 4)", id="too few"),
        pytest.param(lone("broadcast_to", 1, shape="(2, 3, 2)"), ONES, "cannot be broadcast", id="3 for 4"),
        pytest.param(lone("broadcast_to", 1, shape="(2, 1, 2)"), ONES, "cannot be broadcast", id="1 for 4"),
        pytest.param(lone("broadcast_like", 2), ONES | {"in1": (2, 4)}, "cannot be broadcast", id="like too few"),
        pytest.param(lone("broadcast_like", 2), ONES | {"in1": (1, 1, 1)}, "axis 1 of", id="like a smaller one"),
        pytest.param(
            lone("broadcast_like", 2, lhs_axes="1", rhs_axes="0"), ONES | {"in1": (4,)}, "axis 1 of", id="an axis of 4"
        ),
        pytest.param(
            lone("broadcast_like", 2, lhs_axes="0", rhs_axes="5"), ONES | {"in1": (4,)}, "axis 5 is not", id="axis 5"
        ),
    )
    random = st.one_of(_tile(), _repeat(), _broadcast())


def test_a_repetition_counts_no_operations() -> None:
    assert resolve(lone("tile", 1, reps="2"), DATA).flops() == 0
