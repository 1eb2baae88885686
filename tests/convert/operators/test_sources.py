"""Constants, ranges, and the shapes of tensors."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, graph_of, lone, node, variable
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.errors import ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.network import resolve

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
DTYPES: Final = ("float32", "int32", "int64")


@st.composite
def random_source(draw: Any) -> Case:
    name = draw(st.sampled_from(["_zeros", "_ones", "_full", "_arange", "_linspace", "_eye", *LIKE]))
    small = st.integers(-8, 8).map(lambda number: number / 4)
    if name in LIKE:
        attributes = {}
        if name == "_contrib_arange_like":
            attributes = {"start": draw(small), "step": draw(small), "repeat": draw(st.integers(1, 3))}
            attributes |= {"axis": draw(st.sampled_from([None, 0, -1]))}
        return Case(name, {"data": draw(SHAPES)}, attributes)
    dtype = {"dtype": draw(st.sampled_from(DTYPES))}
    if name in ("_zeros", "_ones"):
        return Case(name, {}, {"shape": draw(SHAPES)} | dtype)
    if name == "_full":
        return Case(name, {}, {"shape": draw(SHAPES), "value": draw(small)} | dtype)
    if name == "_arange":
        start, step = draw(small), draw(st.sampled_from([0.5, 1, 1.5, -0.25, -2]))
        stop = start + step * draw(st.floats(0.1, 9))
        return Case(name, {}, {"start": start, "stop": stop, "step": step, "repeat": draw(st.integers(1, 3))} | dtype)
    if name == "_linspace":
        attributes = {"num": draw(st.integers(1, 9)), "endpoint": draw(st.booleans())}
        return Case(name, {}, {"start": draw(small), "stop": draw(small)} | attributes)
    sizes = {"N": draw(st.integers(1, 5)), "M": draw(st.integers(0, 5)), "k": draw(st.integers(-4, 4))}
    return Case(name, {}, sizes | dtype)


LIKE: Final = ("zeros_like", "ones_like", "shape_array", "size_array", "_contrib_arange_like")


class TestSources(OperatorSuite):
    cases = (
        suite_case("of zeros", "_zeros", shape=(2, 3)),
        suite_case("of integers", "_zeros", shape=(4,), dtype="int64"),
        suite_case("of ones", "_ones", shape=(1, 2, 1), dtype="int32"),
        suite_case("of a fraction", "_full", shape=(3,), value=0.1),
        suite_case("of a truncated fraction", "_full", shape=(3,), value=-2.7, dtype="int32"),
        suite_case("up to a stop", "_arange", start=1, stop=6, step=2),
        suite_case("from 0", "_arange", start=5, stop=None, infer_range=False, repeat=1),
        suite_case("down", "_arange", start=5, stop=1, step=-1.5),
        suite_case("repeated", "_arange", start=1, stop=6, step=2, repeat=3, dtype="int64"),
        suite_case("of tenths", "_arange", start=0, stop=1, step=0.1, ctx="cpu(0)"),
        suite_case("with its end", "_linspace", start=-1, stop=2, num=7),
        suite_case("without its end", "_linspace", start=0, stop=1, num=5, endpoint=False),
        suite_case("of one", "_linspace", start=3, stop=1, num=1),
        suite_case("of three rows", "_eye", N=3),
        suite_case("above the diagonal", "_eye", N=2, M=4, k=1),
        suite_case("below the diagonal", "_eye", N=3, k=-1, dtype="int32"),
        suite_case("of an image", "zeros_like", IMAGE),
        suite_case("of an image", "ones_like", IMAGE),
        suite_case("in another type's name", "ones_like", (3,), dtype="int64"),
        pytest.param(Case("zeros_like", {"data": (3,)}, dtypes={"data": "int64"}), id="zeros_like of int64"),
        suite_case("of an image", "shape_array", IMAGE),
        suite_case("of an image", "size_array", IMAGE),
        suite_case("along an axis", "_contrib_arange_like", IMAGE, axis=-2, start=2, step=0.5),
        suite_case("along a free axis, repeated", "_contrib_arange_like", IMAGE, axis=2, repeat=2),
        suite_case("in the input's shape", "_contrib_arange_like", (2, 4), start=1, repeat=3),
    )
    unsupported = (
        pytest.param(lone("_zeros", 0), "attribute shape is missing", id="no shape"),
        pytest.param(lone("_zeros", 0, shape="(2, 3)", dtype="bool"), "attribute dtype='bool'", id="bool"),
        pytest.param(lone("_arange", 0), "attribute start is missing", id="no start"),
        pytest.param(lone("_arange", 0, start="0", repeat="0"), "attribute repeat='0'", id="never"),
        pytest.param(lone("_full", 0, shape="(2,)"), "attribute value is missing", id="no value"),
        pytest.param(lone("_eye", 0), "attribute N is missing", id="no rows"),
    )
    misshapen = (
        pytest.param(lone("_arange", 0, start="5", stop="1"), {}, "the range is empty", id="an empty range"),
        pytest.param(lone("_contrib_arange_like", 1, axis="4"), DATA, "is not an axis", id="no such axis"),
    )
    random = random_source()


OPEN: Final = (
    pytest.param(node("_zeros", "zeros", (), shape="(0, 3)"), (2, 3), np.zeros((2, 3)), id="zeros"),
    pytest.param(
        node("_arange", "range", (), start="2", step="0.5", infer_range="True"),
        (4,),
        np.array([2, 2.5, 3, 3.5]),
        id="a range",
    ),
)


@pytest.mark.parametrize(("source", "shape", "expected"), OPEN)
def test_the_reader_decides_open_sizes(source: Any, shape: tuple[int, ...], expected: Any) -> None:
    network = resolve(graph_of(variable("data"), source, node("elemwise_add", "sum", (0, 1))), {"data": shape})

    assert network.shapes[1] == (shape,)
    np.testing.assert_array_equal(evaluate(network, {"data": np.ones(shape)})["sum"], 1 + expected)


def test_a_shape_that_no_reader_completes_is_refused() -> None:
    with pytest.raises(ShapeError, match="cannot be inferred"):
        resolve(lone("_zeros", 0, shape="(0, 3)"), {})
