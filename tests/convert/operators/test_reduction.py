"""Reductions along axes, the indices of extrema, and cumulative sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from dialects import written
from one_node import DATA, IMAGE, lone, run_onnx, values_for
from operands import small_integers
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Shape
from sshconvert.network import parse_symbol, resolve
from sshconvert.operators.reduction import FUNCTIONS

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
EXTREMA: Final = ("argmax", "argmin")


def with_missing(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Numbers of which a third is NaN."""
    values = {name: random.normal(0, 1, shape) for name, shape in shapes.items()}
    return {name: np.where(random.random(array.shape) < 1 / 3, np.nan, array) for name, array in values.items()}


def near_one_or_missing(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    values, missing = near_one(shapes, random), with_missing(shapes, random)
    return {name: np.where(np.isnan(missing[name]), np.nan, array) for name, array in values.items()}


def near_one(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    return {name: random.uniform(0.8, 1.25, shape) * random.choice([-1, 1], shape) for name, shape in shapes.items()}


VALUES: Final = {"nansum": with_missing, "nanprod": near_one_or_missing, "prod": near_one}


def reduction(name: str, shape: Shape, **attributes: Any) -> Case:
    values = VALUES.get(name, small_integers if name in (*EXTREMA, "argmax_channel") else None)
    return Case(name, {"data": shape}, attributes, values=values, tolerance=0 if name in EXTREMA else 1e-5)


@st.composite
def random_reduction(draw: Any) -> Case:
    name, shape = draw(st.sampled_from([*FUNCTIONS, "norm", "moments"])), draw(SHAPES)
    keep = {"keepdims": draw(st.booleans())}
    axes = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(axes, unique_by=lambda axis: axis % len(shape), max_size=len(shape)).map(tuple)
    axis = draw(st.none() | axes | several)
    if name == "moments":
        return reduction(name, shape, axes=0 if axis in (None, ()) else axis, **keep)
    if name == "norm":
        # MXNet takes at most two axes.
        axis = axis[:2] if isinstance(axis, tuple) else axis
        return reduction(name, shape, ord=draw(st.sampled_from([1, 2])), axis=axis, **keep)
    case = reduction(name, shape, axis=axis, exclude=draw(st.booleans()), **keep)
    if FUNCTIONS[name].takes_integers and draw(st.booleans()):
        dtype = draw(st.sampled_from(["int32", "int64"]))
        return Case(name, case.inputs, case.attributes, {"data": dtype}, small_integers)
    return case


@st.composite
def random_order(draw: Any) -> Case:
    name, shape = draw(st.sampled_from([*EXTREMA, "argmax_channel", "cumsum"])), draw(SHAPES)
    if name == "argmax_channel":
        return reduction(name, (3, *shape[:4]))
    if name == "cumsum":
        return reduction(name, shape, axis=draw(st.none() | st.integers(0, len(shape) - 1)))
    axis = draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    return reduction(name, shape, axis=axis, keepdims=draw(st.booleans()))


class TestReductions(OperatorSuite):
    cases = (
        *(pytest.param(reduction(name, (2, 3, 4)), id=name) for name in FUNCTIONS),
        *(pytest.param(reduction(name, IMAGE, axis=(-1, 2)), id=f"{name} of spatial axes") for name in FUNCTIONS),
        suite_case("of one axis", "sum", IMAGE, axis=1),
        suite_case("of the last axis, kept", "sum", IMAGE, axis=-1, keepdims=True),
        suite_case("of all axes, kept", "sum", IMAGE, keepdims=True),
        suite_case("of no axes", "sum", IMAGE, axis=()),
        suite_case("of no axes, excluded", "sum", IMAGE, axis=(), exclude=True),
        suite_case("of the others", "mean", IMAGE, axis=1, exclude=True),
        suite_case("of the others, kept", "mean", IMAGE, axis=(0, -3), exclude=True, keepdims=True),
        suite_case("of none of its axes", "max", (2, 3), axis=(0, 1), exclude=True),
        suite_case("of a vector", "max", (5,), axis=0),
        suite_case("of a vector, kept", "max", (5,), axis=0, keepdims=True),
        suite_case("by its old name", "sum_axis", (2, 3, 4), axis=(0, 2)),
        suite_case("by its old name", "max_axis", (2, 3, 4), axis=2),
        *(
            pytest.param(Case(name, {"data": (3, 4)}, {"axis": 1}, {"data": "int64"}, small_integers), id=f"{name} int")
            for name in ("sum", "prod", "max", "min")
        ),
        suite_case("by default", "norm", IMAGE),
        suite_case("of order 1", "norm", IMAGE, ord=1),
        suite_case("of an axis", "norm", IMAGE, axis=1, keepdims=True),
        suite_case("of order 1, of two axes", "norm", IMAGE, ord=1, axis=(3, -2), out_dtype="float32"),
        *(pytest.param(reduction(name, IMAGE, axis=1), id=f"{name} of an axis") for name in EXTREMA),
        *(pytest.param(reduction(name, IMAGE), id=f"{name} of all") for name in EXTREMA),
        pytest.param(reduction("argmax", IMAGE, axis=-1, keepdims=True), id="argmax of the last axis, kept"),
        pytest.param(reduction("argmax", IMAGE, axis=None, keepdims=True), id="argmax of all, kept"),
        pytest.param(reduction("argmin", (7,), axis=0), id="argmin of a vector"),
        pytest.param(Case("argmax", {"data": (3, 9)}, {"axis": 1}, {"data": "int32"}, small_integers), id="argmax int"),
        pytest.param(reduction("argmax_channel", (3, 4, 5)), id="argmax_channel"),
        suite_case("of spatial axes", "moments", IMAGE, axes=(2, -1)),
        suite_case("of all axes", "moments", (3, 4), axes=(0, 1)),
        suite_case("of an axis, kept", "moments", IMAGE, axes=1, keepdims=True),
        suite_case("of all elements", "cumsum", IMAGE),
        suite_case("along an axis", "cumsum", IMAGE, axis=2),
        pytest.param(Case("cumsum", {"data": (3, 4)}, {"axis": 1}, {"data": "int32"}, small_integers), id="cumsum int"),
        pytest.param(Case("cumsum", {"data": (3, 4)}, {"dtype": "int64"}, values=small_integers), id="cumsum to int"),
    )
    unsupported = (
        pytest.param(lone("sum", 1, axes="1"), "attribute axes='1' is not known", id="axes"),
        pytest.param(lone("norm", 1, ord="3"), "attribute ord='3'", id="another norm"),
        pytest.param(lone("norm", 1, out_dtype="int32"), "attribute out_dtype='int32'", id="another type"),
        pytest.param(lone("moments", 1), "attribute axes is missing", id="no axes"),
        pytest.param(lone("cumsum", 1, axis="-1"), "attribute axis='-1'", id="a negative axis"),
        pytest.param(lone("argmax", 1, axis="(1, 2)"), "attribute axis='(1, 2)'", id="two axes"),
    )
    misshapen = (
        pytest.param(lone("sum", 1, axis="4"), DATA, "are not all axes", id="no such axis"),
        pytest.param(lone("sum", 1, axis="(1, -3)"), DATA, "repeat", id="an axis twice"),
        pytest.param(lone("cumsum", 1, axis="4"), DATA, "is not an axis", id="no axis to add along"),
        pytest.param(lone("argmax", 1, axis="-5"), DATA, "are not all axes", id="no such negative axis"),
    )
    random = st.one_of(random_reduction(), random_order())


@pytest.mark.parametrize("name", ["mean", "nansum", "norm"])
def test_means_and_norms_refuse_integers(name: str) -> None:
    with pytest.raises(ShapeError, match=f"cannot compute {name} of int64"):
        resolve(lone(name, 1), {"data": (3,)}, dtypes={"data": np.dtype(np.int64)})


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", [*FUNCTIONS, "norm", "moments"])
def test_axes_are_where_the_operator_set_reads_them(
    name: str, opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshconvert.export.OPSET", opset)
    network = reduction(name, (2, 3, 4), **{"axes" if name == "moments" else "axis": (0, 2)}).network()
    values = values_for(network.parameters([]))
    model = export(network, {}, {"data": (2, 3, 4)}, name="test")

    outputs = run_onnx(model, tmp_path, values)

    assert model.opset == opset
    for output, exact in zip(outputs, evaluate(network, values).values(), strict=True):
        np.testing.assert_allclose(output, exact, rtol=1e-5)


def test_an_axis_of_minus_one_meant_all_axes_in_old_symbols() -> None:
    document = written(lone("argmax", 1, axis="-1"))

    assert resolve(parse_symbol(json.dumps(document)), {"data": (2, 3)}).shapes[-1] == ((2,),)
    del document["attrs"]
    assert resolve(parse_symbol(json.dumps(document)), {"data": (2, 3)}).shapes[-1] == ((1,),)
