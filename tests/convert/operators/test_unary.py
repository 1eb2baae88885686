"""Functions of one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import IMAGE, lone
from operands import halves, small_integers
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.network import resolve
from sshconvert.operators.unary import FUNCTIONS

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
ROUNDED: Final = ("round", "rint", "ceil", "floor", "trunc", "fix", "sign", "logical_not")
BETWEEN: Final[Mapping[str, tuple[float, float]]] = {
    **dict.fromkeys(("sqrt", "rsqrt", "log", "log10", "log2"), (0.01, 9)),
    **dict.fromkeys(("reciprocal", "rcbrt"), (0.1, 5)),
    **dict.fromkeys(("arcsin", "arccos", "arctanh"), (-0.95, 0.95)),
    "tan": (-1.4, 1.4),
    "arccosh": (1, 9),
    "log1p": (-0.9, 3),
}
SMALL: Final = ("log1p", "expm1", "sin", "tan", "sinh", "tanh", "arcsinh", "arctanh", "arctan", "arcsin", "cbrt")


def inside(key: str, scale: float = 1) -> Any:
    least, most = BETWEEN.get(key, (-4, 4))

    def values(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
        return {name: random.uniform(least, most, shape) * scale for name, shape in shapes.items()}

    return values


def near_halves(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Halves, the float32 numbers next to them, and numbers without a fraction that float32 still holds."""
    chosen = np.array([0, 0.5, 1.5, 2.5, 4194303.5, 8388607.5, 8388609, 16777215, 1e10], np.float32)
    around = np.concatenate([np.nextafter(chosen, np.float32(end)) for end in (-np.inf, np.inf)])
    numbers = np.concatenate([chosen, around, -chosen, -around])
    return {name: random.choice(numbers, shape) for name, shape in shapes.items()}


def unary(name: str, shape: Shape, dtype: str = "float32") -> Case:
    if dtype != "float32":
        return Case(name, {"data": shape}, dtypes={"data": dtype}, values=small_integers)
    return Case(name, {"data": shape}, values=halves if name in ROUNDED else inside(name))


@st.composite
def random_unary(draw: Any) -> Case:
    name = draw(st.sampled_from([*FUNCTIONS, "clip", "smooth_l1"]))
    if name == "clip":
        limits = sorted(draw(st.tuples(*[st.floats(-2, 2, width=32)] * 2)))
        return Case(name, {"data": draw(SHAPES)}, {"a_min": limits[0], "a_max": limits[1]})
    if name == "smooth_l1":
        return Case(name, {"data": draw(SHAPES)}, {"scalar": draw(st.floats(0.25, 3, width=32))})
    if FUNCTIONS[name].takes_integers and draw(st.booleans()):
        return unary(name, draw(SHAPES), draw(st.sampled_from(["int32", "int64"])))
    if name in SMALL and draw(st.booleans()):
        return Case(name, {"data": draw(SHAPES)}, values=inside(name, 1e-4))
    return unary(name, draw(SHAPES))


class TestFunctions(OperatorSuite):
    cases = (
        *(pytest.param(unary(name, IMAGE), id=name) for name in FUNCTIONS),
        *(
            pytest.param(Case(name, {"data": (40,)}, values=inside(name, 1e-4)), id=f"{name} of small numbers")
            for name in SMALL
        ),
        *(
            pytest.param(Case(name, {"data": (200,)}, values=near_halves), id=f"{name} near halves")
            for name in ROUNDED
            if name != "logical_not"
        ),
        *(
            pytest.param(unary(name, (3, 4), "int64"), id=f"{name} of int64")
            for name in ("abs", "sign", "negative", "square", "logical_not", "floor", "relu")
        ),
        suite_case("by another name", "_npx_relu", IMAGE),
        suite_case("of both limits", "clip", IMAGE, a_min=-0.3, a_max=0.7),
        suite_case("of one value", "clip", (3, 4), a_min=0.1, a_max=0.1),
        pytest.param(
            Case("clip", {"data": (9,)}, {"a_min": -1.5, "a_max": 2.5}, {"data": "int64"}, small_integers),
            id="clip of int64",
        ),
        suite_case("by default", "smooth_l1", IMAGE),
        suite_case("of a scalar", "smooth_l1", IMAGE, scalar=3.0),
        suite_case("of a small scalar", "smooth_l1", (3, 4), scalar=0.2),
    )
    unsupported = (
        pytest.param(lone("exp", 1, base="2"), "attribute base='2' is not known", id="another base"),
        pytest.param(lone("clip", 1, a_min="0"), "attribute a_max is missing", id="no limit"),
        pytest.param(lone("clip", 1, a_min="2", a_max="1"), "is larger than a_max", id="limits in disorder"),
        pytest.param(lone("clip", 1, a_min="0", a_max="inf"), "attribute a_max='inf'", id="an infinite limit"),
    )
    random = random_unary()


EDGES: Final = (
    ("exp", [-np.inf, 0, np.inf], [0, 1, np.inf]),
    ("log", [0, 1, np.inf], [-np.inf, 0, np.inf]),
    ("log1p", [-1, 0, np.inf], [-np.inf, 0, np.inf]),
    ("expm1", [-np.inf, 0, np.inf], [-1, 0, np.inf]),
    ("cbrt", [-27, 0, np.inf], [-3, 0, np.inf]),
    ("rsqrt", [0, 4, np.inf], [np.inf, 0.5, 0]),
    ("sign", [-np.inf, 0, 2], [-1, 0, 1]),
    ("sigmoid", [-np.inf, 0, 800], [0, 0.5, 1]),
)


@pytest.mark.parametrize(("name", "data", "expected"), EDGES)
def test_the_definition_holds_at_the_edges(name: str, data: list[float], expected: list[float]) -> None:
    operator = resolve(lone(name, 1), {"data": (3,)}).operators[-1]

    assert operator is not None
    np.testing.assert_allclose(operator.evaluate(np.array(data))[0], expected, rtol=1e-15)


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if not function.takes_integers])
def test_functions_with_fractions_refuse_integers(name: str) -> None:
    with pytest.raises(ShapeError, match=f"cannot compute {name} of int64"):
        resolve(lone(name, 1), {"data": (3,)}, dtypes={"data": np.dtype(np.int64)})
