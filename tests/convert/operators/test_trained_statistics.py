"""BatchNorm with the statistics of real trained networks: converters have got `fix_gamma` and tiny values wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from operator_suite import Case, assert_same_everywhere
from project import SHARED
from sshconvert.arrays import Array
from sshconvert.graph import Node, Shape
from sshconvert.mxnet.params import read_params
from sshconvert.network import read_symbol
from zoo import ZooNetwork, read_zoo

ZOO: Final = SHARED / "data" / "zoo"
ROLES: Final = ("gamma", "beta", "moving_mean", "moving_var")
TRAINED: Final = [network for network in read_zoo(ZOO) if network.trained] if ZOO.is_dir() else []


def layers(network: ZooNetwork) -> Iterator[tuple[Node, dict[str, Array]]]:
    """Each BatchNorm of a network with its trained values by their roles."""
    assert network.trained
    values = {name.rpartition(":")[2]: array for name, array in read_params(network.trained).items()}
    graph = read_symbol(network.symbol)
    for node in graph.nodes:
        if node.operator == "BatchNorm":
            names = [graph.nodes[entry.node].name for entry in node.inputs[1:]]
            names = [name if name in values else name.replace("moving_", "running_") for name in names]
            yield node, {role: values[name] for role, name in zip(ROLES, names, strict=True)}


def smallest_variance(layer: tuple[Node, Mapping[str, Array]]) -> float:
    return float(layer[1]["moving_var"].min())


def case_of(node: Node, values: Mapping[str, Array], eps: str | None = None) -> Case:
    """The layer alone, with data around the mean: by the deviation, as in training, or by 1 for another eps."""
    mean, variance = (values[role][None, :, None, None] for role in ROLES[2:])

    def arrays(shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, Array]:
        trained = {f"node_{role}": array for role, array in values.items()}
        if "data" in shapes:
            deviation = np.ones_like(variance) if eps else np.sqrt(variance + 1e-6)
            trained["data"] = mean + deviation * random.normal(0, 1, shapes["data"])
        return {name: trained[name] for name in shapes}

    attributes = {key: value for key, value in node.attributes.items() if not key.startswith("__")}
    attributes |= {"eps": eps} if eps else {}
    return Case("BatchNorm", {"data": (2, len(values["gamma"]), 2, 2)}, attributes, values=arrays)


@pytest.mark.parametrize("network", TRAINED, ids=lambda network: network.name)
def test_a_trained_layer_computes_what_mxnet_computes(
    network: ZooNetwork, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = sorted(layers(network), key=smallest_variance)
    if not found:
        pytest.skip("it has no BatchNorm")

    for node, values in found if request.config.getoption("--long") else found[:2]:
        assert_same_everywhere(case_of(node, values), tmp_path)
        assert_same_everywhere(case_of(node, values, eps="1e-10"), tmp_path)


@pytest.mark.skipif(not TRAINED, reason="the real networks are not here")
def test_trained_files_hold_what_a_converter_can_get_wrong() -> None:
    found = [layer for network in TRAINED for layer in layers(network)]
    fixed = [values for node, values in found if node.attributes.get("fix_gamma", "True") == "True"]

    assert any((values["gamma"] != 1).any() for values in fixed)
    assert min(map(smallest_variance, found)) == 0
    assert any(0 < smallest_variance(layer) < 1e-30 for layer in found)
