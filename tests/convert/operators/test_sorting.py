"""Topk, sort and argsort."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from one_node import DATA, lone, run_onnx
from operator_suite import Case, OperatorSuite, run_openvino
from sshconvert.arrays import Array
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Shape
from sshconvert.network import resolve
from strategies import axes_of, shapes

TYPES = ("float32", "float64", "int32", "int64", "uint8")


def distinct(inputs: Mapping[str, Shape], generator: np.random.Generator) -> Mapping[str, Array]:
    """Values without equals, with both infinities."""
    if "data" not in inputs:
        return {}
    size = int(np.prod(inputs["data"]))
    values = generator.permutation(size).astype(np.float32) - size // 2
    if size > 2:
        values[np.argmax(values)], values[np.argmin(values)] = np.inf, -np.inf
    return {"data": values.reshape(inputs["data"])}


def sorting(name: str, operator: str, shape: Shape, **attributes: Any) -> Any:
    case = Case(operator, {"data": shape}, attributes, values=distinct, tolerance=0)
    return pytest.param(case, id=f"{operator} {name}")


@st.composite
def _sorting(draw: DrawFn) -> Case:
    shape = draw(shapes(most=4))
    axis = draw(st.one_of(st.none(), axes_of(shape)))
    operator = draw(st.sampled_from(("topk", "sort", "argsort")))
    attributes: dict[str, Any] = {"axis": axis, "is_ascend": draw(st.booleans())}
    if operator == "topk":
        size = int(np.prod(shape)) if axis is None else shape[axis]
        attributes["k"] = draw(st.integers(0, size))
        attributes["ret_typ"] = draw(st.sampled_from(("value", "indices", "mask", "both")))
    if operator != "sort" and attributes.get("ret_typ") != "mask":
        attributes["dtype"] = draw(st.sampled_from(TYPES[:4]))
    return Case(operator, {"data": shape}, attributes, values=distinct, tolerance=0)


class TestSorting(OperatorSuite):
    cases = (
        *(
            sorting(f"{result} along {axis}", "topk", (3, 4, 5), k=3, ret_typ=result, axis=axis)
            for result in ("value", "indices", "mask", "both")
            for axis in (-1, 0, 1, None)
        ),
        sorting("by default", "topk", (3, 4)),
        sorting("of the smallest", "topk", (3, 4), k=2, is_ascend=True, ret_typ="both"),
        sorting("of all", "topk", (3, 4), k=0, ret_typ="both", axis=0),
        sorting("of less than none", "topk", (3, 4), k=-1),
        *(sorting(f"to {dtype}", "topk", (3, 4), k=2, ret_typ="both", dtype=dtype) for dtype in TYPES),
        *(sorting(f"along {axis}", "sort", (3, 4), axis=axis) for axis in (-1, 0, None)),
        sorting("by default", "sort", (3, 4)),
        sorting("from the largest", "sort", (3, 4), is_ascend=False),
        *(sorting(f"along {axis}", "argsort", (3, 4), axis=axis) for axis in (-1, 0, None)),
        sorting("by default", "argsort", (3, 4)),
        sorting("from the largest", "argsort", (3, 4), axis=1, is_ascend=False),
        sorting("to int32", "argsort", (3, 4), dtype="int32"),
    )
    unsupported = (
        pytest.param(lone("topk", 1, ret_typ="values"), "attribute ret_typ='values'", id="values"),
        pytest.param(lone("topk", 1, dtype="int8"), "attribute dtype='int8'", id="int8"),
        pytest.param(lone("sort", 1, k="1"), "attribute k='1' is not known", id="k of sort"),
    )
    misshapen = (
        pytest.param(lone("topk", 1, k="9"), DATA, "9 elements are more than axis 3", id="nine of eight"),
        pytest.param(lone("topk", 1, axis="4"), DATA, "axis 4 is not", id="topk along axis 4"),
        pytest.param(lone("topk", 1, k="257", axis="None"), DATA, "257 elements are more", id="257 of 256"),
        pytest.param(lone("argsort", 1, dtype="uint8"), {"data": (300,)}, "uint8 cannot index", id="uint8 of 300"),
    )
    random = _sorting()


@pytest.mark.parametrize("is_ascend", ["False", "True"])
def test_of_equal_elements_the_first_comes_first(is_ascend: str, tmp_path: Path) -> None:
    data = np.random.default_rng(5).integers(0, 3, (4, 40)).astype(np.float32)
    network = Case("topk", {"data": data.shape}, {"k": 30, "ret_typ": "both", "is_ascend": is_ascend}).network()
    model = export(network, {}, {"data": data.shape}, name="test")

    values, indices = evaluate(network, {"data": data}).values()

    assert (np.diff(indices)[np.diff(values) == 0] > 0).all()
    runtime = run_onnx(model, tmp_path, {"data": data})
    np.testing.assert_array_equal(runtime[0], values)
    np.testing.assert_array_equal(runtime[1], indices)
    other_values, other_indices = run_openvino(model, tmp_path, {"data": data})  # it keeps no order of equals
    np.testing.assert_array_equal(other_values, values)
    np.testing.assert_array_equal(np.take_along_axis(data, other_indices.astype(np.int64), 1), values)
    assert all(len(set(row)) == 30 for row in other_indices)


def test_sorting_counts_an_operation_for_each_element() -> None:
    assert resolve(lone("topk", 1, k="2"), DATA).flops() == 1 * 4 * 8 * 2
