"""Random networks: sound ones become what MXNet computes, and with one fault each they are refused by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import pytest

from graph_faults import FAULTS, Damaged, NotApplicableError, Refusal
from random_export import TOLERANCE, converted
from random_graphs import Array, RandomGraph, random_graph, with_odd_names
from sshconvert.errors import SSHToolError
from sshconvert.models.registry import load_model
from sshconvert.onnx.model import OnnxModel
from sshtool.runtimes.mxnet import _without_fusion

Mxnet: TypeAlias = Any

MODEL: Final = load_model("ssh-mxnet")
DOSE: Final = 300
FULL_DOSE: Final = 10_000
CHUNKS: Final = [pytest.param(range(at, at + 100), id=f"{at} to {at + 99}") for at in range(0, DOSE, 100)]


def data_for(graph: RandomGraph, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, graph.input_shape).astype(np.float32)


def run_onnx(model: OnnxModel, folder: Path, data: Array) -> dict[str, Array]:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = folder / "random.onnx"
    model.write(path)
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip([tensor.name for tensor in session.get_outputs()], session.run(None, {"data": data}), strict=True))


def run_mxnet(mxnet: Mxnet, graph: RandomGraph, arrays: Mapping[str, Array], data: Array) -> dict[str, Array]:
    symbol = mxnet.sym.load_json(json.dumps(graph.document))
    values = {name[4:]: mxnet.nd.array(array) for name, array in arrays.items()} | {"data": mxnet.nd.array(data)}
    with _without_fusion():  # it loses ReLUs
        executor = symbol.bind(
            mxnet.cpu(),
            {name: values[name] for name in symbol.list_arguments()},
            aux_states={name: values[name] for name in symbol.list_auxiliary_states()},
            grad_req="null",
        )
        outputs = [output.asnumpy() for output in executor.forward(is_train=False)]
    return dict(zip((name.removesuffix("_output") for name in symbol.list_outputs()), outputs, strict=True))


def sound_graph(seed: int) -> RandomGraph:
    """Every third has operators whose names MXNet does not care about."""
    graph = random_graph(seed)
    return graph if seed % 3 else with_odd_names(graph, seed)


def assert_converts(seed: int, folder: Path) -> dict[str, Array]:
    """The outputs in ONNX Runtime, whose names, order and shapes are those that the network was made with."""
    graph = sound_graph(seed)
    outputs = run_onnx(converted(graph.document, graph.arrays(seed), graph.input_shape), folder, data_for(graph, seed))

    assert [(name, value.shape) for name, value in outputs.items()] == list(graph.outputs.items())
    assert all(np.isfinite(value).all() for value in outputs.values())
    return outputs


def assert_like_mxnet(seed: int, mxnet: Mxnet, folder: Path) -> None:
    graph = sound_graph(seed)
    ours = assert_converts(seed, folder)
    theirs = run_mxnet(mxnet, graph, graph.arrays(seed), data_for(graph, seed))

    assert list(ours) == list(theirs)
    for name, value in ours.items():
        scale = max(np.abs(theirs[name]).max(), 1e-3)
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=TOLERANCE * scale, err_msg=f"seed {seed}, {name}")


def planted(seed: int) -> tuple[str, Damaged, Refusal]:
    """The network of this seed with one fault: that of its turn, or the next that finds something to damage."""
    graph = random_graph(seed)
    for turn in range(len(FAULTS)):
        name = list(FAULTS)[(seed + turn) % len(FAULTS)]
        damaged = Damaged.copy(graph, graph.arrays(seed), seed)
        try:
            return name, damaged, FAULTS[name](damaged)
        except NotApplicableError:
            continue
    raise AssertionError(f"seed {seed}: no fault applies")


def assert_refused(seeds: Iterable[int]) -> Counter[str]:
    """How often each fault was planted; each time it was refused, as it should be."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        name, damaged, (error, message) = planted(seed)
        counts[name] += 1
        with pytest.raises(SSHToolError) as caught:
            converted(damaged.document, damaged.arrays, random_graph(seed).input_shape)
        said = str(caught.value)
        assert type(caught.value) is error, (seed, name, said)
        assert message in said, (seed, name, said)
        assert said.isprintable(), (seed, name)
        assert len(said) < 2000, (seed, name)
    return counts


@pytest.mark.parametrize("seeds", CHUNKS)
def test_random_networks_convert_to_the_shapes_that_they_were_made_with(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        assert_converts(seed, tmp_path)


@pytest.mark.parametrize("seeds", CHUNKS)
def test_random_networks_compute_what_mxnet_computes(seeds: range, mxnet: Mxnet, tmp_path: Path) -> None:
    for seed in seeds:
        assert_like_mxnet(seed, mxnet, tmp_path)


def test_random_networks_with_one_fault_are_refused_by_name() -> None:
    counts = assert_refused(range(DOSE))

    assert set(counts) == set(FAULTS)


def test_a_seed_gives_the_same_network_again() -> None:
    assert random_graph(7) == random_graph(7)
    assert random_graph(7) != random_graph(8)


@pytest.mark.long
def test_ten_thousand_random_networks_compute_what_mxnet_computes(mxnet: Mxnet, tmp_path: Path) -> None:
    for seed in range(FULL_DOSE):
        assert_like_mxnet(seed, mxnet, tmp_path)


@pytest.mark.long
def test_ten_thousand_random_networks_with_one_fault_are_refused_by_name(record_property: Any) -> None:
    counts = assert_refused(range(FULL_DOSE))
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")  # noqa: T201  # what a run is for
        record_property(name, count)

    assert set(counts) == set(FAULTS)
