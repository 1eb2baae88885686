"""Concat, stack, SliceChannel and `_split_v2`."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.errors import ShapeError
from sshconvert.network import resolve
from strategies import SHAPES, axes_of


@st.composite
def _concat(draw: DrawFn) -> Case:
    shape = draw(SHAPES)
    axis = draw(axes_of(shape))
    count = draw(st.integers(1, 4))
    inputs = {}
    for number in range(count):
        sizes = list(shape)
        sizes[axis] = draw(st.integers(1, 4))
        inputs[f"in{number}"] = tuple(sizes)
    return Case("Concat", inputs, {"num_args": count, "dim": axis})


@st.composite
def _stack(draw: DrawFn) -> Case:
    shape, count = draw(SHAPES), draw(st.integers(1, 4))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Case("stack", {f"in{number}": shape for number in range(count)}, {"num_args": count, "axis": axis})


@st.composite
def _split(draw: DrawFn) -> Case:
    shape = list(draw(SHAPES))
    axis, count, squeeze = draw(axes_of(shape)), draw(st.integers(1, 4)), draw(st.booleans())
    shape[axis] = count * (1 if squeeze else draw(st.integers(1, 3)))
    squeeze = squeeze and len(shape) > 1
    operator = draw(st.sampled_from(("SliceChannel", "split", "_split_v2")))
    number = {"sections": count, "indices": ()} if operator == "_split_v2" else {"num_outputs": count}
    return Case(operator, {"data": tuple(shape)}, {"axis": axis, "squeeze_axis": squeeze, **number})


@st.composite
def _split_at(draw: DrawFn) -> Case:
    shape = draw(SHAPES)
    axis = draw(axes_of(shape))
    begins = draw(st.sets(st.integers(1, shape[axis]), max_size=3)) - {shape[axis]}
    return Case("_split_v2", {"data": shape}, {"axis": axis, "indices": (0, *sorted(begins))})


class TestJoining(OperatorSuite):
    cases = (
        suite_case("by default", "Concat", (1, 2, 3, 4), (1, 5, 3, 4), num_args=2),
        *(
            suite_case(f"axis {axis}", "Concat", (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), num_args=3, dim=axis)
            for axis in range(-4, 4)
        ),
        suite_case("different sizes", "concat", (1, 2, 3, 4), (1, 2, 3, 1), (1, 2, 3, 6), dim=3, num_args=3),
        suite_case("of one", "Concat", (1, 2, 3, 4), num_args=1),
        suite_case("of two dimensions", "Concat", (2, 3), (1, 3), dim=0, num_args=2),
        suite_case("of vectors", "Concat", (2,), (3,), dim=-1, num_args=2),
        pytest.param(
            Case("Concat", {"data": (2, 3), "other": (2, 1)}, {"num_args": 2}, {"data": "int64", "other": "int64"}),
            id="Concat of integers",
        ),
        *(suite_case(f"axis {axis}", "stack", (2, 3), (2, 3), num_args=2, axis=axis) for axis in range(-3, 3)),
        suite_case("of one", "stack", (3,), num_args=1),
        *(suite_case(f"axis {axis}", "SliceChannel", (2, 4, 6, 8), num_outputs=2, axis=axis) for axis in range(-4, 4)),
        suite_case("into one", "split", (2, 4), num_outputs=1),
        suite_case("into its elements", "split", (2, 4), num_outputs=4, axis=-1),
        suite_case("without the axis", "split", (4, 3, 2), num_outputs=4, axis=0, squeeze_axis=True),
        suite_case("without the last axis", "SliceChannel", (2, 4), num_outputs=4, axis=-1, squeeze_axis=1),
        suite_case("into one without the axis", "SliceChannel", (2, 1, 3), num_outputs=1, squeeze_axis=True),
        suite_case("into twelve", "SliceChannel", (2, 12), num_outputs=12),
        suite_case("at indices", "_split_v2", (2, 9), indices=(0, 2, 3)),
        suite_case("at one index", "_split_v2", (2, 9), indices=(0,), axis=-1),
        suite_case("into sections", "_split_v2", (6, 2), indices=(), sections=3, axis=0),
        suite_case("without the axis", "_split_v2", (2, 3), indices=(0, 1, 2), squeeze_axis=True),
    )
    unsupported = (
        pytest.param(lone("Concat", 2), "attribute num_args is missing", id="concat without num_args"),
        pytest.param(lone("Concat", 2, num_args="3"), "2 inputs, expected 3", id="concat of too few"),
        pytest.param(lone("Concat", 2, num_args="2", dim="-33"), "attribute dim='-33'", id="axis -33"),
        pytest.param(lone("SliceChannel", 1), "attribute num_outputs is missing", id="split into nothing"),
        pytest.param(lone("SliceChannel", 1, num_outputs="0"), "attribute num_outputs='0'", id="split into zero"),
        pytest.param(lone("SliceChannel", 1, num_outputs="2", sections="2"), "attribute sections", id="sections"),
        pytest.param(lone("_split_v2", 1, indices="(1, 3)"), "attribute indices=(1, 3)", id="a part that is lost"),
        pytest.param(lone("_split_v2", 1, indices="(0, 3, 3)"), "attribute indices=(0, 3, 3)", id="an empty part"),
        pytest.param(lone("_split_v2", 1), "attribute indices is missing", id="neither indices nor sections"),
    )
    misshapen = (
        pytest.param(
            lone("Concat", 2, num_args="2"),
            DATA | {"in1": (1, 4, 8, 7)},
            "differ outside axis 1",
            id="concat of widths",
        ),
        pytest.param(
            lone("Concat", 2, num_args="2", dim="4"), DATA | {"in1": (1, 4, 8, 8)}, "axis 4 is not an axis", id="axis 4"
        ),
        pytest.param(
            lone("Concat", 2, num_args="2", dim="-5"), DATA | {"in1": (1, 4, 8, 8)}, "axis -5 is not", id="axis -5"
        ),
        pytest.param(lone("Concat", 2, num_args="2"), DATA | {"in1": (1, 4)}, "differ outside", id="concat of ranks"),
        pytest.param(lone("Concat", 2, num_args="2"), DATA, "the shapes of in1 are not known", id="unknown concat"),
        pytest.param(lone("stack", 2, num_args="2"), DATA | {"in1": (1, 4, 8, 7)}, "differ", id="stack of widths"),
        pytest.param(lone("stack", 1, num_args="1", axis="5"), DATA, "axis 5 is not", id="stack at axis 5"),
        pytest.param(lone("SliceChannel", 1, num_outputs="3"), DATA, "does not divide into 3", id="4 into 3"),
        pytest.param(lone("SliceChannel", 1, num_outputs="2", axis="4"), DATA, "axis 4 is not", id="split axis 4"),
        pytest.param(
            lone("SliceChannel", 1, num_outputs="2", squeeze_axis="1"), DATA, "cannot lose that axis", id="parts of 2"
        ),
        pytest.param(lone("_split_v2", 1, indices="(0, 4)"), DATA, "that begins at 4 of 4 is empty", id="no part left"),
        pytest.param(lone("_split_v2", 1, sections="3"), DATA, "does not divide into 3", id="sections"),
    )
    random = st.one_of(_concat(), _stack(), _split(), _split_at())


def test_joining_tensors_of_different_types_is_refused() -> None:
    mixed = Case("Concat", {"data": (2, 3), "other": (2, 1)}, {"num_args": 2}, {"data": "int64"})

    with pytest.raises(ShapeError, match=r"node \(Concat\): the types \['float32', 'int64'\] of the inputs differ"):
        mixed.network()


def test_splitting_and_joining_count_no_operations() -> None:
    assert resolve(lone("Concat", 1, num_args="1"), DATA).flops() == 0
    assert resolve(lone("SliceChannel", 1, num_outputs="2"), DATA).flops() == 0
