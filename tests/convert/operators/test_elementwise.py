"""Functions of two tensors, of a tensor and a scalar, and sums of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.network import resolve
from sshconvert.operators.binary import ARITHMETIC, COMPARISONS, FUNCTIONS
from sshconvert.operators.registry import OPERATORS

Mxnet: TypeAlias = Any

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
BATCHES: Final = ((2, 4, 9, 8), (2, 4, 1, 8))
ELEMENTWISE: Final = {
    key: next(name for name in (f"elemwise_{key}", f"_{key}") if name in OPERATORS) for key in FUNCTIONS
}
SCALARS: Final = sorted({kind.name for name, kind in OPERATORS.items() if name.endswith("_scalar")})


def small_integers(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Both signs, zeros and many equal values, but no divisor of 0."""
    values = {name: random.integers(-4, 5, shape) for name, shape in shapes.items()}
    return values | {name: np.where(array == 0, 3, array) for name, array in values.items() if name == "other"}


def exponents(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Bases of both signs, and whole exponents."""
    return {name: random.integers(0 if name == "other" else -3, 4, shape) for name, shape in shapes.items()}


def halves(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Multiples of 1/2 of both signs, with zeros and ties."""
    return {name: random.integers(-6, 7, shape) / 2 for name, shape in shapes.items()}


def positive(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    return {name: random.uniform(0.1, 3, shape) for name, shape in shapes.items()}


def values_of(key: str, dtype: str) -> Any:
    if key == "power":
        return exponents if dtype != "float32" else positive
    return halves if dtype == "float32" and key != "div" else small_integers


def binary(name: str, key: str, lhs: Shape, rhs: Shape, dtype: str = "float32") -> Case:
    types = {} if dtype == "float32" else {"data": dtype, "other": dtype}
    return Case(name, {"data": lhs, "other": rhs}, dtypes=types, values=values_of(key, dtype), free=(0,))


def scalar_case(name: str, shape: Shape, scalar: float, dtype: str = "float32") -> Case:
    key = name.removeprefix("_").removesuffix("_scalar")
    values = values_of("power", dtype) if "power" in key else small_integers
    if dtype != "float32" and name in ("_rdiv_scalar", "_rmod_scalar", "_rpower_scalar"):
        values = positive_integers
    types = {} if dtype == "float32" else {"data": dtype}
    return Case(name, {"data": shape}, {"scalar": scalar}, dtypes=types, values=values)


def positive_integers(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    return {name: random.integers(1, 5, shape) for name, shape in shapes.items()}


def broadcasts(shape: Shape, ones: list[bool], dropped: int) -> Shape:
    """The shape with some sizes of 1, and without some of its first axes."""
    reduced = tuple(1 if is_one else size for size, is_one in zip(shape, ones, strict=True))
    return reduced[min(dropped, len(shape) - 1) :]


@st.composite
def random_binary(draw: Any) -> Case:
    key, dtype = draw(st.sampled_from([*FUNCTIONS])), draw(st.sampled_from(["float32"] * 3 + ["int32", "int64"]))
    shape = draw(SHAPES)
    if draw(st.booleans()):
        return binary(ELEMENTWISE[key], key, shape, shape, dtype)
    flags = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    sides = broadcasts(shape, draw(flags), 0), broadcasts(shape, draw(flags), draw(st.integers(0, 2)))
    return binary(f"broadcast_{key}", key, *(sides if draw(st.booleans()) else sides[::-1]), dtype)


@st.composite
def random_scalar(draw: Any) -> Case:
    name, dtype = draw(st.sampled_from(SCALARS)), draw(st.sampled_from(["float32"] * 3 + ["int32", "int64"]))
    scalar = draw(st.sampled_from([1.0, 2.0, 3.0, 0.5, 1.7, 2.0 / 3] if dtype == "float32" else [1, 2, 3, 2.5]))
    if "power" not in name and draw(st.booleans()):
        scalar = -scalar
    return scalar_case(name, draw(SHAPES), scalar, dtype)


class TestFunctionsOfTwoTensors(OperatorSuite):
    cases = (
        *(pytest.param(binary(f"broadcast_{key}", key, *BATCHES), id=f"broadcast_{key}") for key in FUNCTIONS),
        *(
            pytest.param(binary(ELEMENTWISE[key], key, IMAGE, IMAGE), id=ELEMENTWISE[key])
            for key in ("add", "mod", "greater", "logical_and")
        ),
        *(
            pytest.param(binary(f"broadcast_{key}", key, *BATCHES, "int64"), id=f"broadcast_{key} of int64")
            for key in ("div", "mod", "power", "maximum", "hypot", "equal", "logical_xor")
        ),
        pytest.param(binary("broadcast_div", "div", (3, 4), (3, 1), "int32"), id="broadcast_div of int32"),
        suite_case("of both", "broadcast_mul", (3, 1), (1, 4)),
        suite_case("of a single number", "broadcast_sub", (1,), IMAGE),
    )
    unsupported = (
        pytest.param(lone("elemwise_add", 2, scalar="1"), "attribute scalar='1' is not known", id="an attribute"),
        pytest.param(lone("elemwise_add", 3), "3 inputs, expected 2", id="add of three"),
        pytest.param(lone("broadcast_mod", 1), "1 inputs, expected 2", id="mod of one"),
    )
    misshapen = (
        pytest.param(lone("elemwise_add", 2), DATA | {"in1": (1, 4, 8, 1)}, "expected (1, 4, 8, 8)", id="no broadcast"),
        pytest.param(lone("broadcast_add", 2), DATA | {"in1": (1, 3, 8, 1)}, "do not broadcast", id="3 and 4 channels"),
        pytest.param(lone("broadcast_add", 2), DATA, "in1", id="something unknown"),
    )
    random = random_binary()


class TestFunctionsOfATensorAndAScalar(OperatorSuite):
    cases = (
        *(pytest.param(scalar_case(name, IMAGE, 1.7), id=name) for name in SCALARS),
        *(
            pytest.param(scalar_case(name, (2, 5), 2.5, "int64"), id=f"{name} of int64")
            for name in (
                "_plus_scalar",
                "_div_scalar",
                "_rdiv_scalar",
                "_rmod_scalar",
                "_power_scalar",
                "_equal_scalar",
            )
        ),
        suite_case("by default", "_plus_scalar", (3,)),
        suite_case("of a negative scalar", "_mod_scalar", (3, 4), scalar=-0.7),
        suite_case("of zero", "_mod_scalar", (3, 4), scalar=0),
        suite_case("in MXNet 1.9's form", "_mul_scalar", (3, 4), scalar="0.1", is_int="False"),
        suite_case("of a large scalar", "_plus_scalar", (3, 4), scalar=-1e18),
    )
    unsupported = (
        pytest.param(lone("_plus_scalar", 1, scalar="many"), "attribute scalar='many'", id="no number"),
        pytest.param(lone("_plus_scalar", 1, scalar="1e39"), "attribute scalar='1e39'", id="beyond float32"),
        pytest.param(lone("_plus_scalar", 1, scalar="nan"), "attribute scalar='nan'", id="NaN"),
    )
    random = random_scalar()


class TestSums(OperatorSuite):
    cases = (
        suite_case("of one", "add_n", IMAGE, num_args=1),
        suite_case("of two", "add_n", IMAGE, IMAGE, num_args=2),
        suite_case("of three", "ElementWiseSum", (5,), (5,), (5,), num_args=3),
    )
    unsupported = (pytest.param(lone("add_n", 2), "attribute num_args is missing", id="no number"),)
    misshapen = (pytest.param(lone("add_n", 2, num_args="2"), DATA | {"in1": (3,)}, "expected (1, 4, 8, 8)", id="two"),)
    random = st.builds(
        lambda shape, count: Case("add_n", {f"in{n}": shape for n in range(count)}, {"num_args": count}),
        SHAPES,
        st.integers(1, 6),
    )


def test_a_sum_infers_the_shape_of_its_second_input() -> None:
    assert resolve(lone("elemwise_add", 2), DATA).parameters(DATA) == {"in1": (1, 4, 8, 8)}


def test_integers_with_a_fraction_become_floating_point_where_the_symbol_says_so() -> None:
    network = resolve(
        lone("_div_scalar", 1, scalar="2.5", is_int="False"), {"data": (2,)}, dtypes={"data": np.dtype(np.int64)}
    )
    operator = network.operators[-1]

    assert network.dtypes[-1] == (np.dtype(np.float32),)
    assert operator is not None
    np.testing.assert_array_equal(operator.evaluate(np.array([5, -7]))[0], [2, -2.8])


@pytest.mark.parametrize("key", [*ARITHMETIC, *COMPARISONS])
def test_mixed_types_are_refused(key: str) -> None:
    with pytest.raises(ShapeError, match="expected one type"):
        resolve(lone(f"broadcast_{key}", 2), DATA | {"in1": (1,)}, dtypes={"in1": np.dtype(np.int64)})


OLD_NAMES: Final = (
    ("_Maximum", "_maximum"),
    ("_Greater_Equal", "_greater_equal"),
    ("_Logical_Xor", "_logical_xor"),
    ("_Plus", "elemwise_add"),
    ("_minus", "elemwise_sub"),
    ("broadcast_plus", "broadcast_add"),
    ("broadcast_minus", "broadcast_sub"),
    ("_PlusScalar", "_plus_scalar"),
    ("_RMinusScalar", "_rminus_scalar"),
    ("_GreaterEqualScalar", "_greater_equal_scalar"),
    ("_LogicalAndScalar", "_logical_and_scalar"),
)


@pytest.mark.parametrize(("old", "name"), OLD_NAMES)
def test_old_names_mean_the_same(old: str, name: str) -> None:
    assert OPERATORS[old] is OPERATORS[name]


@pytest.mark.parametrize("name", [*ELEMENTWISE.values(), *(f"broadcast_{key}" for key in FUNCTIONS), *SCALARS])
def test_mxnet_has_every_name(name: str, mxnet: Mxnet) -> None:
    for alias in (name, *OPERATORS[name].aliases):
        assert hasattr(mxnet.sym, alias) or hasattr(mxnet.sym._internal, alias)
