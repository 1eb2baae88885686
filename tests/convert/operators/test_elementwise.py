"""Functions of two tensors, of a tensor and a scalar, and sums of several."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operands import values_of
from operator_suite import Case, OperatorSuite, suite_case
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


def binary(name: str, key: str, lhs: Shape, rhs: Shape, dtype: str = "float32") -> Case:
    types = {} if dtype == "float32" else {"data": dtype, "other": dtype}
    return Case(name, {"data": lhs, "other": rhs}, dtypes=types, values=values_of(key, dtype), free=(0,))


def broadcasts(shape: Shape, ones: list[bool], dropped: int) -> Shape:
    """The shape with some sizes of 1, and without some of its first axes."""
    reduced = tuple(1 if is_one else size for size, is_one in zip(shape, ones, strict=True))
    return reduced[min(dropped, len(shape) - 1) :]


@st.composite
def random_binary(draw: Any) -> Case:
    key = draw(st.sampled_from([*FUNCTIONS]))
    dtype = draw(st.sampled_from(["float32", *(["int32", "int64"] if FUNCTIONS[key].takes_integers else [])]))
    shape = draw(SHAPES)
    if draw(st.booleans()):
        return binary(ELEMENTWISE[key], key, shape, shape, dtype)
    flags = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    sides = broadcasts(shape, draw(flags), 0), broadcasts(shape, draw(flags), draw(st.integers(0, 2)))
    return binary(f"broadcast_{key}", key, *(sides if draw(st.booleans()) else sides[::-1]), dtype)


class TestFunctionsOfTwoTensors(OperatorSuite):
    cases = (
        *(pytest.param(binary(f"broadcast_{key}", key, *BATCHES), id=f"broadcast_{key}") for key in FUNCTIONS),
        *(pytest.param(binary(ELEMENTWISE[key], key, IMAGE, IMAGE), id=ELEMENTWISE[key]) for key in FUNCTIONS),
        *(
            pytest.param(binary(f"broadcast_{key}", key, *BATCHES, "int64"), id=f"broadcast_{key} of int64")
            for key in ("div", "mod", "power", "maximum", "equal", "logical_xor")
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


def test_hypot_refuses_integers() -> None:
    with pytest.raises(ShapeError, match="cannot compute broadcast_hypot of int64"):
        resolve(
            lone("broadcast_hypot", 2),
            DATA | {"in1": (1,)},
            dtypes=dict.fromkeys(("data", "in1"), np.dtype(np.int64)),
        )


def test_a_sum_infers_the_shape_of_its_second_input() -> None:
    assert resolve(lone("elemwise_add", 2), DATA).parameters(DATA) == {"in1": (1, 4, 8, 8)}


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
