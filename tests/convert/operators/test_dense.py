"""FullyConnected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, lone, run_onnx, values_for
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.export import export
from sshconvert.graph import Graph
from sshconvert.ir import IntermediateRepresentation
from sshconvert.network import resolve
from sshconvert.passes.fp16 import StoreWeightsAsFp16
from sshconvert.passes.int8 import Quantization, Quantize, WeightLevels

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


class TestFullyConnected(OperatorSuite):
    cases = (
        suite_case("of rows", "FullyConnected", (3, 5), num_hidden=4),
        suite_case("of rows without bias", "FullyConnected", (3, 5), num_hidden=4, no_bias=True),
        suite_case("of images", "FullyConnected", IMAGE, num_hidden=7),
        suite_case("of images without bias", "FullyConnected", IMAGE, num_hidden=7, no_bias=True),
        suite_case("of a vector", "FullyConnected", (5,), num_hidden=2),
        suite_case("of one image", "FullyConnected", (1, 4, 1, 1), num_hidden=1, flatten=True),
        suite_case("of the last axis", "FullyConnected", (2, 3, 5), num_hidden=4, flatten=False),
        suite_case("of the last axis of images", "FullyConnected", IMAGE, num_hidden=4, flatten=False, no_bias=True),
        suite_case("of the last axis of rows", "FullyConnected", (3, 5), num_hidden=4, flatten=False),
        suite_case("of the last axis of a vector", "FullyConnected", (5,), num_hidden=4, flatten=False),
        pytest.param(
            Case("FullyConnected", {"data": (2, 4, 3, 5)}, {"num_hidden": 6, "flatten": False}, free=(0, 2)),
            id="of the last axis at free sizes",
        ),
    )
    unsupported = (
        pytest.param(lone("FullyConnected", 3), "attribute num_hidden is missing", id="no size"),
        pytest.param(lone("FullyConnected", 3, num_hidden="0"), "attribute num_hidden='0'", id="nothing hidden"),
        pytest.param(lone("FullyConnected", 2, num_hidden="4"), "2 inputs, expected 3", id="no bias"),
        pytest.param(lone("FullyConnected", 3, num_hidden="4", axis="1"), "attribute axis='1'", id="an axis"),
    )
    misshapen = (
        pytest.param(
            lone("FullyConnected", 3, num_hidden="4"),
            DATA | {"in1": (4, 4)},
            "in1 has shape (4, 4), expected (4, 256)",
            id="weights of other features",
        ),
    )
    random = st.builds(
        lambda shape, attributes: Case("FullyConnected", {"data": shape}, attributes),
        SHAPES,
        st.fixed_dictionaries({"num_hidden": st.integers(1, 5), "no_bias": st.booleans(), "flatten": st.booleans()}),
    )


def test_fp16_halves_large_weights_in_both_formats(tmp_path: Path) -> None:
    network = resolve(lone("FullyConnected", 3, num_hidden="256"), DATA)
    parameters = values_for(network.parameters(DATA))
    model = export(network, parameters, DATA, name="test")
    halved = StoreWeightsAsFp16().apply(model)

    assert halved.stored == {"in1_fp16": np.float16}
    assert halved.initializers["in2"].dtype == np.float32

    pytest.importorskip("openvino", reason="openvino is not installed")
    model.write(tmp_path / "model.onnx")
    representation = IntermediateRepresentation(tmp_path / "model.onnx", name="test", layout="")
    sizes = {}
    for name in ("fp32", "fp16"):
        representation.save(tmp_path / f"{name}.xml", {})
        sizes[name] = (tmp_path / f"{name}.bin").stat().st_size
        representation.compress_to_fp16()
    assert sizes["fp32"] - sizes["fp16"] == 2 * 256 * 256


def test_int8_rounds_the_weights_of_each_hidden_number(tmp_path: Path) -> None:
    network = resolve(lone("FullyConnected", 3, num_hidden="6"), DATA)
    parameters = values_for(network.parameters(DATA))
    model = export(network, parameters, DATA, name="test")
    scale = np.abs(parameters["in1"]).max(1) / 127
    rounded = Quantize(Quantization({}, {"node": WeightLevels(scale, 0)})).apply(model)
    data = values_for(DATA)

    (exact,), (approximate,) = run_onnx(model, tmp_path, data), run_onnx(rounded, tmp_path, data)

    assert [node.op_type for node in rounded.nodes] == ["Flatten", "DequantizeLinear", "Gemm"]
    steps = scale * np.abs(data["data"]).sum() / 2
    assert (np.abs(approximate - exact) <= steps).all()
    assert (approximate != exact).any()


COSTS = (
    pytest.param(lone("FullyConnected", 3, num_hidden="10"), 10 * (2 * 4 * 8 * 8 + 1), id="with a bias"),
    pytest.param(
        lone("FullyConnected", 2, num_hidden="10", no_bias="True", flatten="False"),
        4 * 8 * 10 * 2 * 8,
        id="of the last axis",
    ),
)


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations
