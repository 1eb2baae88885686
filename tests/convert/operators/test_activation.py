"""Activation functions and Dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.arrays import Array
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

INFINITY: Final = float("inf")


def edges(shapes: Mapping[str, Shape], _: np.random.Generator) -> dict[str, Array]:
    """Zeros, ones and large values of both signs, and infinities."""
    values = np.array([0, -0.0, 1, -1, 20, -20, 1e-30, -1e-30, 300, -300, INFINITY, -INFINITY], np.float32)
    return {name: np.resize(values, shape) for name, shape in shapes.items()}


def edge_case(operator: str, **attributes: Any) -> Any:
    case = Case(operator, {"data": (1, 12)}, attributes, values=edges, tolerance=1e-5)
    return pytest.param(case, id=f"{operator} edges {attributes}")


def prelu(name: str, data: Shape, gamma: Shape | None = None) -> Any:
    inputs = {"data": data} if gamma is None else {"data": data, "gamma": gamma}
    return pytest.param(Case("LeakyReLU", inputs, {"act_type": "prelu"}), id=f"prelu {name}")


TYPES: Final = ("relu", "sigmoid", "tanh", "softrelu", "softsign")
SHAPES: Final = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
SLOPES: Final = st.floats(-2, 2, width=32)


@st.composite
def prelus(draw: st.DrawFn) -> Case:
    data = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple))
    gamma = draw(st.sampled_from([None, (1,), (data[1],), (1, data[1]), data[:2], (1, 1)]))
    inputs = {"data": data} if gamma is None else {"data": data, "gamma": gamma}
    return Case("LeakyReLU", inputs, {"act_type": "prelu"})


RANDOM: Final = st.one_of(
    prelus(),
    st.builds(lambda s, kind: Case("Activation", {"data": s}, {"act_type": kind}), SHAPES, st.sampled_from(TYPES)),
    st.builds(
        lambda s, kind, slope: Case("LeakyReLU", {"data": s}, {"act_type": kind, "slope": slope}),
        SHAPES,
        st.sampled_from(("leaky", "elu", "selu", "gelu", "rrelu")),
        SLOPES,
    ),
    st.builds(
        lambda s, alpha, beta: Case("hard_sigmoid", {"data": s}, {"alpha": alpha, "beta": beta}), SHAPES, SLOPES, SLOPES
    ),
    st.builds(lambda s, p: Case("Dropout", {"data": s}, {"p": p}), SHAPES, st.floats(0, 0.9)),
)


class TestActivation(OperatorSuite):
    cases = (
        *(suite_case(kind, "Activation", IMAGE, act_type=kind) for kind in TYPES),
        *(edge_case("Activation", act_type=kind) for kind in TYPES),
        suite_case("of vectors", "hard_sigmoid", (3, 5)),
        edge_case("hard_sigmoid"),
        suite_case("without its slope", "hard_sigmoid", IMAGE, alpha=0, beta=0.25),
        suite_case("without its offset", "hard_sigmoid", IMAGE, alpha=0.5, beta=0),
        suite_case("with its slope", "hard_sigmoid", IMAGE, alpha=-0.5, beta=0.25),
        *(suite_case(kind, "LeakyReLU", IMAGE, act_type=kind) for kind in ("leaky", "elu", "selu", "gelu", "rrelu")),
        *(edge_case("LeakyReLU", act_type=kind) for kind in ("leaky", "elu", "selu", "rrelu")),
        suite_case("by default", "LeakyReLU", (2, 5)),
        suite_case("leaky with its slope", "LeakyReLU", IMAGE, act_type="leaky", slope=0.1),
        suite_case("leaky with a negative slope", "LeakyReLU", (4,), act_type="leaky", slope=-1.5),
        suite_case("leaky with slope 0", "LeakyReLU", IMAGE, act_type="leaky", slope=0),
        suite_case("elu with its slope", "LeakyReLU", IMAGE, act_type="elu", slope=1.0),
        suite_case("elu with a negative slope", "LeakyReLU", IMAGE, act_type="elu", slope=-0.5),
        suite_case("rrelu with its bounds", "LeakyReLU", IMAGE, act_type="rrelu", lower_bound=0.5, upper_bound=0.75),
        prelu("by channel", IMAGE),
        prelu("of vectors", (3, 4)),
        prelu("of three axes", (3, 4, 5)),
        prelu("of a volume", (1, 2, 3, 4, 5)),
        prelu("with one slope", IMAGE, (1,)),
        prelu("with a slope for each channel and instance", (2, 3, 4), (2, 3)),
        prelu("with slopes of two axes", (2, 3, 4), (1, 3)),
        suite_case("by default", "Dropout", IMAGE),
        suite_case("of a vector", "Dropout", (5,), p=0.2, mode="training", axes=(), cudnn_off=False),
        suite_case("along axes", "Dropout", IMAGE, p=0.7, axes=(2, 3)),
    )
    unsupported = (
        pytest.param(lone("Activation", 1), "attribute act_type is missing", id="no act_type"),
        pytest.param(lone("Activation", 1, act_type="mish"), "attribute act_type='mish'", id="mish"),
        pytest.param(lone("LeakyReLU", 1, act_type="swish"), "attribute act_type='swish'", id="leaky swish"),
        pytest.param(lone("LeakyReLU", 1, slope="steep"), "attribute slope='steep'", id="slope"),
        pytest.param(lone("LeakyReLU", 2, act_type="elu"), "2 inputs, expected 1", id="elu with gamma"),
        pytest.param(lone("LeakyReLU", 1, act_type="prelu"), "1 inputs, expected 2", id="prelu without gamma"),
        pytest.param(lone("relu", 1, slope="1"), "attribute slope='1' is not known", id="relu with a slope"),
        pytest.param(lone("Dropout", 1, mode="always"), "attribute mode='always'", id="dropout at inference"),
    )
    misshapen = (
        pytest.param(lone("Activation", 1, act_type="relu"), {"data": ()}, "input data: 0 dimensions", id="scalar"),
        pytest.param(
            lone("LeakyReLU", 2, act_type="prelu"), DATA | {"in1": (3,)}, "gamma of shape (3,) does not fit", id="gamma"
        ),
        pytest.param(
            lone("LeakyReLU", 2, act_type="prelu"),
            DATA | {"in1": (1, 4, 1)},
            "gamma of shape",
            id="gamma of three axes",
        ),
    )
    random = RANDOM


COSTS: Final = [
    pytest.param(lone("Activation", 1, act_type="relu"), 4 * 8 * 8 * 2, id="activation"),
    pytest.param(lone("LeakyReLU", 2, act_type="prelu"), 4 * 8 * 8 * 2, id="prelu"),
    pytest.param(lone("Dropout", 1), 0, id="dropout"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


def test_a_slope_in_the_file_may_be_one_for_all_channels() -> None:
    graph = lone("LeakyReLU", 2, act_type="prelu")

    assert resolve(graph, DATA).parameters(DATA) == {"in1": (4,)}
    assert resolve(graph, DATA, known={"in1": (1,)}).parameters(DATA) == {"in1": (1,)}
