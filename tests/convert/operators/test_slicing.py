"""Crop and slice_axis."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, Value, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import SHAPES, axes_of


@st.composite
def _crop(draw: DrawFn) -> Case:
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    begin = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    full = tuple(at + length + draw(st.integers(0, 3)) for at, length in zip(begin, size, strict=True))
    inputs = {"data": (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *full)}
    choices: tuple[dict[str, Value], ...] = ({"offset": begin}, {"center_crop": True}, {})
    options = draw(st.sampled_from(choices))
    if draw(st.booleans()):
        return Case("Crop", inputs | {"other": (1, 2, *size)}, {"num_args": 2, **options})
    return Case("Crop", inputs, {"num_args": 1, "h_w": size, **options})


@st.composite
def _slice_axis(draw: DrawFn) -> Case:
    shape = draw(SHAPES)
    axis = draw(axes_of(shape))
    size = shape[axis]
    begin = draw(st.integers(0, size - 1))
    end = draw(st.integers(begin + 1, size))
    ends = [end, None] if end == size else [end, end - size]
    attributes = {"begin": draw(st.sampled_from((begin, begin - size))), "end": draw(st.sampled_from(ends))}
    return Case("slice_axis", {"data": shape}, {"axis": axis, **attributes})


class TestSlicing(OperatorSuite):
    cases = (
        suite_case("like another", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2),
        suite_case("like one of its size", "Crop", (2, 3, 9, 8), (2, 1, 9, 8), num_args=2),
        suite_case("like another at an offset", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, offset=(1, 3)),
        suite_case("like another centred", "Crop", (2, 3, 10, 9), (2, 5, 5, 4), num_args=2, center_crop=True),
        suite_case(
            "centred despite an offset",
            "Crop",
            (2, 3, 10, 9),
            (2, 5, 5, 4),
            num_args=2,
            center_crop=True,
            offset=(1, 1),
        ),
        suite_case("like another despite h_w", "Crop", (2, 3, 9, 8), (2, 5, 5, 4), num_args=2, h_w=(2, 2)),
        suite_case("of a size", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6)),
        suite_case("of a size at an offset", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 6), offset=(5, 2)),
        suite_case("of a size centred", "Crop", (2, 3, 9, 8), num_args=1, h_w=(4, 5), center_crop=True),
        suite_case("from the front", "slice_axis", (2, 9, 3), axis=1, begin=2, end=5),
        suite_case("to the end", "slice_axis", (2, 9, 3), axis=1, begin=2, end=None),
        suite_case("from the back", "slice_axis", (2, 9, 3), axis=-2, begin=-3, end=None),
        suite_case("from the back to the back", "slice_axis", (2, 9, 3), axis=-2, begin=-3, end=-1),
        suite_case("without its last", "slice_axis", (2, 9, 3), axis=1, begin=0, end=-1),
        suite_case("of a batch", "slice_axis", (4, 3), axis=0, begin=1, end=3),
        suite_case("of a batch from the back", "slice_axis", (4, 3), axis=0, begin=-2, end=None),
        suite_case("of a batch without its last", "slice_axis", (4, 3), axis=0, begin=1, end=-1),
    )
    unsupported = (
        pytest.param(lone("Crop", 3, num_args="3"), "attribute num_args='3' is not supported", id="crop of three"),
        pytest.param(lone("Crop", 1, num_args="1", h_w="(3, 3, 3)"), "attribute h_w='(3, 3, 3)'", id="crop in 3-D"),
        pytest.param(lone("Crop", 1, num_args="2"), "1 inputs, expected 2", id="crop like nothing"),
        pytest.param(lone("slice_axis", 1, axis="1", end="2"), "attribute begin is missing", id="slice from nowhere"),
        pytest.param(lone("slice_axis", 1, axis="None", begin="0", end="2"), "attribute axis", id="slice of no axis"),
    )
    misshapen = (
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
        *(
            pytest.param(
                lone("slice_axis", 1, axis="1", begin=begin, end=end),
                DATA,
                "is no part of axis 1",
                id=f"{begin} to {end}",
            )
            for begin, end in (("0", "5"), ("2", "2"), ("3", "1"), ("-5", "2"), ("-1", "0"), ("4", "None"), ("0", "-4"))
        ),
        pytest.param(lone("slice_axis", 1, axis="4", begin="0", end="1"), DATA, "axis 4 is not", id="slice of axis 4"),
    )
    random = st.one_of(_crop(), _slice_axis())


def test_a_window_counts_no_operations() -> None:
    assert resolve(lone("Crop", 1, num_args="1", h_w="(2, 2)"), DATA).flops() == 0
    assert resolve(lone("slice_axis", 1, axis="1", begin="0", end="2"), DATA).flops() == 0
