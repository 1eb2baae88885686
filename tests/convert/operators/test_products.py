"""Products of matrices and of tensors, and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.network import resolve

SIZES = st.integers(1, 5)


def indices(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Indices with fractions, some outside of seven rows."""
    return {name: random.uniform(-3, 10, shape) for name, shape in shapes.items() if name == "data"}


def embedding(shape: Shape, rows: int, columns: int, dtype: str = "float32") -> Case:
    types = {} if dtype == "float32" else {"data": dtype}
    return Case("Embedding", {"data": shape}, {"input_dim": rows, "output_dim": columns}, types, indices)


def product(name: str, lhs: Shape, rhs: Shape, /, *others: Shape, **attributes: Any) -> Case:
    return Case(name, dict(zip(("data", "other", "third"), (lhs, rhs, *others), strict=False)), attributes)


@st.composite
def random_dot(draw: Any) -> Case:
    rest = st.lists(SIZES, max_size=3).map(tuple)
    left, right, inner = draw(rest), draw(rest), draw(SIZES)
    flags = {"transpose_a": draw(st.booleans()) and bool(left), "transpose_b": draw(st.booleans()) and bool(right)}
    lhs = (inner, *left) if flags["transpose_a"] else (*left, inner)
    rhs = (*right, inner) if flags["transpose_b"] else (inner, *right)
    return product("dot", lhs, rhs, **flags)


@st.composite
def random_matrices(draw: Any) -> Case:
    name = draw(st.sampled_from(["batch_dot", "_linalg_gemm2", "_linalg_gemm"]))
    batch = draw(st.lists(SIZES, min_size=1 if name == "batch_dot" else 0, max_size=2).map(tuple))
    rows, inner, columns = (draw(SIZES) for _ in range(3))
    flags = {"transpose_a": draw(st.booleans()), "transpose_b": draw(st.booleans())}
    lhs = (*batch, inner, rows) if flags["transpose_a"] else (*batch, rows, inner)
    rhs = (*batch, columns, inner) if flags["transpose_b"] else (*batch, inner, columns)
    if name == "batch_dot":
        return product(name, lhs, rhs, **flags)
    axis = draw(st.integers(-len(batch) - 2, -2))
    shapes = [tuple(np.moveaxis(np.empty(x), -2, axis).shape) for x in (lhs, rhs, (*batch, rows, columns))]
    factors = {"alpha": draw(st.sampled_from([1.0, 0.3, -2.0])), "axis": axis}
    if name == "_linalg_gemm2":
        return product(name, *shapes[:2], **flags, **factors)
    return product(name, *shapes, **flags, **factors, beta=draw(st.sampled_from([1.0, 0.7, 0.0])))


@st.composite
def random_other(draw: Any) -> Case:
    if draw(st.booleans()):
        shape = draw(st.lists(SIZES, min_size=1, max_size=4).map(tuple))
        return embedding(shape, 7, draw(SIZES), draw(st.sampled_from(["float32", "int32", "int64"])))
    columns, rows = draw(SIZES), draw(st.lists(SIZES, min_size=1, max_size=3))
    inputs = {f"in{number}": (size, columns) for number, size in enumerate(rows)}
    return Case("khatri_rao", inputs, {"num_args": len(rows)})


class TestProducts(OperatorSuite):
    cases = (
        pytest.param(product("dot", (3,), (3,)), id="dot of vectors"),
        pytest.param(product("dot", (2, 3), (3,)), id="dot of a matrix and a vector"),
        pytest.param(product("dot", (3,), (3, 2)), id="dot of a vector and a matrix"),
        pytest.param(product("dot", (5, 4), (5,), transpose_a=True), id="dot of a transposed matrix and a vector"),
        pytest.param(product("dot", (3,), (2, 3), transpose_b=True), id="dot of a vector and a transposed matrix"),
        pytest.param(product("dot", (2, 3), (3, 4)), id="dot of matrices"),
        pytest.param(product("dot", (3, 2), (4, 3), transpose_a=True, transpose_b=True), id="dot of transposed ones"),
        pytest.param(product("dot", (2, 3, 4), (4, 5, 6)), id="dot of tensors"),
        pytest.param(product("dot", (4, 2, 3), (5, 6, 4), transpose_a=True, transpose_b=True), id="dot of turned ones"),
        pytest.param(product("dot", (2, 5, 3), (3, 4), forward_stype="default"), id="dot of a tensor and a matrix"),
        pytest.param(product("batch_dot", (2, 3, 4), (2, 4, 5)), id="batch_dot"),
        pytest.param(product("batch_dot", (2, 4, 3), (2, 4, 5), transpose_a=True), id="batch_dot, first transposed"),
        pytest.param(product("batch_dot", (2, 3, 4), (2, 5, 4), transpose_b=True), id="batch_dot, second transposed"),
        pytest.param(product("batch_dot", (2, 3, 2, 4), (2, 3, 4, 1)), id="batch_dot of four dimensions"),
        pytest.param(product("_linalg_gemm2", (2, 3), (3, 4), alpha=0.3), id="_linalg_gemm2 of matrices"),
        pytest.param(product("linalg_gemm2", (2, 3, 4), (2, 5, 4), transpose_b=True), id="linalg_gemm2 of a batch"),
        pytest.param(product("_linalg_gemm2", (2, 5, 3), (3, 5, 4), axis=0, alpha=2.5), id="_linalg_gemm2, axis 0"),
        pytest.param(
            product("_linalg_gemm2", (2, 5, 3), (2, 5, 4), axis=-3, transpose_a=True), id="_linalg_gemm2, axis -3"
        ),
        pytest.param(product("_linalg_gemm", (2, 3), (3, 4), (2, 4), alpha=2.0, beta=0.5), id="_linalg_gemm"),
        pytest.param(product("linalg_gemm", (2, 5, 3), (3, 5, 4), (2, 5, 4), axis=0), id="linalg_gemm of axis 0"),
        pytest.param(embedding((2, 5), 7, 3), id="Embedding"),
        pytest.param(embedding((9,), 7, 3, "int32"), id="Embedding of int32"),
        suite_case("of one matrix", "khatri_rao", (2, 3), num_args=1),
        suite_case("of three matrices", "khatri_rao", (2, 3), (4, 3), (5, 3), num_args=3),
    )
    unsupported = (
        pytest.param(lone("dot", 2, forward_stype="csr"), "attribute forward_stype='csr'", id="a sparse result"),
        pytest.param(lone("Embedding", 2, input_dim="3"), "attribute output_dim is missing", id="no columns"),
        pytest.param(lone("_linalg_gemm2", 2, beta="2"), "attribute beta='2' is not known", id="beta of gemm2"),
    )
    misshapen = (
        pytest.param(lone("dot", 2), {"data": (2, 3), "in1": (4, 3)}, "do not fit", id="3 columns and 4 rows"),
        pytest.param(
            lone("dot", 2, transpose_a="True"), {"data": (3,), "in1": (3,)}, "cannot be transposed", id="vectors"
        ),
        pytest.param(lone("batch_dot", 2), {"data": (2, 3), "in1": (3, 4)}, "have no batch", id="no batch"),
        pytest.param(lone("batch_dot", 2), {"data": (2, 3, 4), "in1": (1, 4, 3)}, "differ", id="other batches"),
        pytest.param(
            lone("_linalg_gemm2", 2, axis="2"), {"data": (2, 3, 4), "in1": (2, 4, 3)}, "axis of rows", id="columns"
        ),
        pytest.param(
            lone("_linalg_gemm", 3), {"data": (2, 3), "in1": (3, 4), "in2": (1, 4)}, "expected (2, 4)", id="a third"
        ),
        pytest.param(lone("khatri_rao", 1, num_args="1"), DATA, "not all matrices", id="an image"),
    )
    random = st.one_of(random_dot(), random_matrices(), random_other())


def test_the_weights_of_an_embedding_have_the_shape_of_its_attributes() -> None:
    network = resolve(lone("Embedding", 2, input_dim="7", output_dim="3"), {"data": (2, 5)})

    assert network.parameters(["data"]) == {"in1": (7, 3)}
    assert network.output_shapes() == {"node": (2, 5, 3)}
