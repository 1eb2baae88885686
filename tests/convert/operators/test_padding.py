"""Pad."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.network import resolve
from strategies import shapes

WIDTHS: Final = (0, 0, 0, 0, 1, 2, 3, 1)


@st.composite
def _pad(draw: DrawFn) -> Case:
    shape = draw(shapes(least=4))
    mode = draw(st.sampled_from(("constant", "edge", "reflect")))
    widths = [draw(st.integers(0, size - 1 if mode == "reflect" else 3)) for size in shape[2:] for _ in range(2)]
    value = draw(st.sampled_from((0, 1, -2.5, 0.1)))
    attributes = {"mode": mode, "pad_width": (0, 0, 0, 0, *widths), "constant_value": value}
    return Case(draw(st.sampled_from(("Pad", "pad"))), {"data": shape}, attributes)


class TestPadding(OperatorSuite):
    cases = (
        *(
            suite_case(mode, "Pad", (2, 3, 4, 5), mode=mode, pad_width=WIDTHS)
            for mode in ("constant", "edge", "reflect")
        ),
        *(
            suite_case(
                f"{mode} of five dimensions", "pad", (2, 3, 3, 3, 3), mode=mode, pad_width=(*WIDTHS[:6], 0, 2, 2, 0)
            )
            for mode in ("constant", "edge", "reflect")
        ),
        suite_case("of a value", "Pad", (1, 2, 3, 3), mode="constant", pad_width=WIDTHS, constant_value=0.1),
        suite_case("of nothing", "Pad", (1, 2, 3, 3), mode="reflect", pad_width=(0,) * 8),
        suite_case("edge despite a value", "Pad", (1, 2, 3, 3), mode="edge", pad_width=WIDTHS, constant_value=7),
    )
    unsupported = (
        pytest.param(lone("Pad", 1, pad_width=str(WIDTHS)), "attribute mode is missing", id="pad without a mode"),
        pytest.param(lone("Pad", 1, mode="edge"), "attribute pad_width is missing", id="pad without widths"),
        pytest.param(lone("Pad", 1, mode="wrap", pad_width=str(WIDTHS)), "attribute mode='wrap'", id="wrap"),
        pytest.param(
            lone("Pad", 1, mode="edge", pad_width="(0, 0, 0, 0, -1, 0, 0, 0)"),
            "attribute pad_width",
            id="a negative width",
        ),
    )
    misshapen = (
        pytest.param(
            lone("Pad", 1, mode="edge", pad_width="(0, 0, 0, 0, 1, 1)"), {"data": (1, 2, 3)}, "4 or 5 dim", id="3-D"
        ),
        pytest.param(
            lone("Pad", 1, mode="edge", pad_width="(0, 0, 0, 0, 1, 1)"), DATA, "is not a pair", id="six widths"
        ),
        pytest.param(
            lone("Pad", 1, mode="edge", pad_width="(0, 0, 1, 0, 0, 0, 0, 0)"), DATA, "first two axes", id="channels"
        ),
        pytest.param(
            lone("Pad", 1, mode="reflect", pad_width="(0, 0, 0, 0, 8, 0, 0, 0)"), DATA, "too small", id="reflect of 8"
        ),
    )
    random = _pad()


def test_padding_counts_no_operations() -> None:
    assert resolve(lone("Pad", 1, mode="edge", pad_width=str(WIDTHS)), DATA).flops() == 0
