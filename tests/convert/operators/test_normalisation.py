"""Normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, assert_like_mxnet, lone, network_of, run_mxnet, run_onnx, values_for
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.export import export
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

Mxnet: TypeAlias = Any


def tiny(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    """Variances of trained networks: many tiny ones, and a 0."""
    variances = 10.0 ** random.uniform(-14, 0, shapes["node_moving_var"])
    variances[0] = 0
    # Data near the mean, as in training: otherwise the first channel outweighs all others.
    return {"node_moving_var": variances, "node_moving_mean": np.zeros(shapes["node_moving_mean"])}


def tiny_variances(eps: float, **attributes: Any) -> Any:
    case = Case("BatchNorm", {"data": (2, 8, 3, 3)}, {"eps": eps, **attributes}, values=lambda s, r: _only(tiny, s, r))
    return pytest.param(case, id=f"BatchNorm eps {eps} {attributes}")


def _only(values: Any, shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
    return values(shapes, random) if "node_moving_var" in shapes else {}


SHAPES: Final = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)
EPS: Final = st.sampled_from((1e-10, 2e-5, 1e-3, 0.5))


@st.composite
def batch_norms(draw: st.DrawFn) -> Case:
    shape = draw(SHAPES)
    attributes = {
        "axis": draw(st.integers(-len(shape), len(shape) - 1)),
        "eps": draw(EPS),
        "fix_gamma": draw(st.booleans()),
        "use_global_stats": draw(st.booleans()),
        "output_mean_var": draw(st.booleans()),
    }
    return Case("BatchNorm", {"data": shape}, attributes)


@st.composite
def other_norms(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(("InstanceNorm", "LayerNorm", "GroupNorm", "LRN", "L2Normalization")))
    dimensions = 4 if name == "LRN" else draw(st.integers(3, 5))
    shape = draw(st.tuples(*[st.integers(2, 5)] * dimensions))
    if name == "LRN":
        numbers = {key: draw(st.sampled_from((1e-4, 0.5, 1.0, 2.0))) for key in ("alpha", "beta", "knorm")}
        return Case(name, {"data": shape}, numbers | {"nsize": draw(st.sampled_from((1, 3, 5, 7)))})
    attributes: dict[str, Any] = {"eps": draw(EPS)}
    if name == "LayerNorm":
        attributes |= {"axis": draw(st.integers(-dimensions, dimensions - 1)), "output_mean_var": draw(st.booleans())}
    if name == "GroupNorm":
        groups = draw(st.integers(1, 3))
        shape = (shape[0], groups * shape[1], *shape[2:])
        attributes |= {"num_groups": groups, "output_mean_var": draw(st.booleans())}
    if name == "L2Normalization":
        attributes["mode"] = draw(st.sampled_from(("instance", "channel", "spatial")))
    return Case(name, {"data": shape}, attributes)


class TestNormalisation(OperatorSuite):
    cases = (
        suite_case("by default", "BatchNorm", IMAGE),
        suite_case("with gamma fixed", "BatchNorm", IMAGE, fix_gamma=True),
        suite_case("with its gamma", "BatchNorm", IMAGE, fix_gamma=False),
        suite_case("with eps", "BatchNorm", IMAGE, fix_gamma=False, eps=0.5),
        suite_case(
            "with global statistics", "BatchNorm", IMAGE, fix_gamma=False, use_global_stats=True, momentum=0.5, axis=1
        ),
        suite_case("of two dimensions", "BatchNorm", (3, 4)),
        suite_case("of three dimensions", "BatchNorm", (2, 4, 5), fix_gamma=False),
        *(suite_case(f"along {axis}", "BatchNorm", (2, 3, 4, 5), axis=axis, fix_gamma=False) for axis in range(-4, 4)),
        *(suite_case(f"of vectors along {axis}", "BatchNorm", (3, 4), axis=axis) for axis in (-1, 0)),
        *(suite_case(f"of a vector along {axis}", "BatchNorm", (4,), axis=axis, fix_gamma=False) for axis in (-1, 0)),
        suite_case("with its statistics", "BatchNorm", IMAGE, output_mean_var=True, eps=0.5),
        suite_case("with its statistics along -1", "BatchNorm", IMAGE, output_mean_var=True, axis=-1, fix_gamma=False),
        *(tiny_variances(eps) for eps in (1e-10, 2e-5)),
        tiny_variances(1e-10, fix_gamma=False, use_global_stats=True),
        suite_case("of version 1", "BatchNorm_v1", IMAGE, fix_gamma=False, eps=1e-5),
        suite_case("by another name", "_npx_batch_norm", IMAGE, fix_gamma=False),
        suite_case("with ReLU", "_contrib_BatchNormWithReLU", IMAGE, fix_gamma=False),
        suite_case("synchronised", "_contrib_SyncBatchNorm", IMAGE, fix_gamma=False, ndev=2, key="a", eps=1e-5),
        suite_case("by default", "InstanceNorm", IMAGE),
        suite_case("of sequences", "InstanceNorm", (2, 3, 5), eps=1e-5),
        suite_case("of volumes", "InstanceNorm", (1, 2, 3, 2, 4)),
        suite_case("by default", "LayerNorm", (2, 3, 4)),
        suite_case("of a vector", "LayerNorm", (4,), eps=0.1),
        *(suite_case(f"along {axis}", "LayerNorm", (2, 3, 4, 5), axis=axis) for axis in (0, 1, -2, 3)),
        suite_case("with its statistics", "LayerNorm", (2, 3, 4), axis=1, output_mean_var=True, eps=0.5),
        suite_case("by default", "GroupNorm", (2, 6, 5)),
        suite_case("of images", "GroupNorm", (2, 6, 3, 4), num_groups=3),
        suite_case("with its statistics", "GroupNorm", (2, 6, 3, 4), num_groups=2, output_mean_var=True, eps=0.5),
        *(suite_case(f"of {size}", "LRN", (2, 6, 3, 2), nsize=size) for size in (1, 3, 5, 15, 10001)),
        suite_case("with everything", "LRN", IMAGE, nsize=5, alpha=0.5, beta=0.3, knorm=1),
        *(suite_case(f"with knorm {k}", "LRN", IMAGE, nsize=3, alpha=0.5, knorm=k) for k in (0.0001, 0.5, 1.5, 2)),
        suite_case("as in AlexNet", "LRN", IMAGE, nsize=5, alpha=0.0001, beta=0.75, knorm=1),
        *(suite_case(mode, "L2Normalization", IMAGE, mode=mode) for mode in ("instance", "channel", "spatial")),
        *(suite_case(f"{mode} of rows", "L2Normalization", (2, 3, 4), mode=mode) for mode in ("channel", "spatial")),
        suite_case("by default", "L2Normalization", (3, 5)),
        suite_case("of a vector", "L2Normalization", (3,), eps=1.0),
        pytest.param(
            Case("L2Normalization", {"data": (3, 5)}, values=lambda s, _: {k: np.zeros(v) for k, v in s.items()}),
            id="L2Normalization of zeros",
        ),
    )
    unsupported = (
        pytest.param(lone("BatchNorm", 5, axis="first"), "attribute axis='first'", id="axis"),
        pytest.param(lone("BatchNorm", 3), "3 inputs, expected 5", id="no statistics"),
        pytest.param(lone("BatchNorm", 5, eps="small"), "attribute eps='small'", id="eps small"),
        pytest.param(lone("_contrib_SyncBatchNorm", 5, output_mean_var="True"), "output_mean_var='True'", id="sync"),
        pytest.param(lone("L2Normalization", 1, mode="batch"), "attribute mode='batch'", id="L2 mode"),
        pytest.param(lone("LRN", 1), "attribute nsize is missing", id="LRN without its size"),
        pytest.param(lone("LRN", 1, nsize="4"), "attribute nsize='4' is not supported: expected an odd", id="LRN of 4"),
        pytest.param(lone("GroupNorm", 3, num_groups="0"), "attribute num_groups='0'", id="no groups"),
    )
    misshapen = (
        pytest.param(lone("BatchNorm", 5), {"data": (4,)}, "(4,) has no axis 1", id="vector without channels"),
        pytest.param(lone("BatchNorm", 5, axis="-5"), DATA, "has no axis -5", id="axis -5"),
        pytest.param(lone("LayerNorm", 3, axis="4"), DATA, "has no axis 4", id="LayerNorm along axis 4"),
        pytest.param(lone("InstanceNorm", 3), {"data": (4, 4)}, "no spatial axes", id="InstanceNorm of rows"),
        pytest.param(lone("GroupNorm", 3), {"data": (4, 4)}, "no spatial axes", id="GroupNorm of rows"),
        pytest.param(lone("GroupNorm", 3, num_groups="3"), DATA, "do not divide into 3 groups", id="groups"),
        pytest.param(lone("LRN", 1, nsize="3"), {"data": (4, 4, 4)}, "NCHW", id="LRN of rows"),
        pytest.param(lone("L2Normalization", 1, mode="channel"), {"data": (4, 4)}, "no spatial axes", id="L2 of rows"),
    )
    random = st.one_of(batch_norms(), other_norms())


COSTS: Final = [
    pytest.param(lone("BatchNorm", 5), 4 * 8 * 8 * 2, id="batch normalisation"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


def test_batch_norm_with_a_fixed_gamma_ignores_the_stored_one(mxnet: Mxnet, tmp_path: Path) -> None:
    symbol = mxnet.sym.BatchNorm(mxnet.sym.Variable("data"), name="bn")
    inputs = {"data": (1, 2, 3, 3)}
    network = network_of(symbol, inputs)
    values = values_for({**inputs, **network.parameters(inputs)})
    outputs = []
    for gamma in (1, 5):
        values["bn_gamma"][:] = gamma
        outputs += run_onnx(export(network, values, inputs, name="test"), tmp_path, values)
        outputs += run_mxnet(mxnet, symbol, values)

    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=1e-5, atol=1e-5)


def test_a_gamma_that_two_layers_share_is_fixed_only_where_it_is_said(mxnet: Mxnet, tmp_path: Path) -> None:
    gamma = mxnet.sym.Variable("bn_gamma")
    fixed = mxnet.sym.BatchNorm(mxnet.sym.Variable("data"), gamma, name="bn")
    symbol = mxnet.sym.BatchNorm(fixed, gamma, fix_gamma=False, name="bn2")

    assert_like_mxnet(mxnet, symbol, {"data": (1, 2, 3, 3)}, tmp_path)
