"""Every network of the zoo, from its files through the command line to both runtimes.

    pytest -n0 --long tests/tools/test_zoo.py

prints a line for each network. `evaluate` computes the expected outputs; MXNet confirms them where it is installed.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import exporters_worker
import zoo
from command_line import sshtool
from project import SHARED
from sshconvert.arrays import Array
from sshconvert.cutting import cut
from sshconvert.evaluation import evaluate
from sshconvert.formats.registry import format_of
from sshconvert.graph import Shape
from sshconvert.mxnet.params import read_params, write_params
from sshconvert.network import Network, read_symbol, resolve
from sshtool.runtimes.mxnet import import_mxnet
from sshtool.runtimes.symbol_cut import cut_symbol
from zoo import ZooNetwork

FOLDER: Final = SHARED / "data" / "zoo"
NETWORKS: Final = zoo.read_zoo(FOLDER) if FOLDER.is_dir() else []
TOLERANCE: Final = 1e-5
# The regions of ROIAlign come from the network itself, and its samples move with their rounding.
MOVING: Final = {"gluoncv-mask_rcnn_fpn_resnet18_v1b_coco": 1e-4}
# One of each kind, and small.
SAMPLE: Final = (
    "gluoncv-mobilenet0.25",
    "lenet-a",
    "mlp",
    "mtcnn-det1-v0.8",
    "mtcnn-head-pnet-train",
    "mxnet-save-000800",
)
FOREIGN: Final = re.compile(r"^(Q(Activation|Convolution|Convolution_v1|FullyConnected)|ChannelwiseConvolution)$")
# Their sizes fit no input, in MXNet neither: they were made for poolings that round up.
MISSHAPEN: Final = ("inception-bn-cpp-a", "inception-bn-h2o-model", "inception-bn2-cpp-b", "unet-*")


def is_foreign(network: ZooNetwork) -> bool:
    return any(FOREIGN.match(operator) for operator in network.operators)


def parameter(network: ZooNetwork) -> object:
    return pytest.param(network, id=network.name, marks=() if network.name in SAMPLE else (pytest.mark.long,))


def chosen(*, supported: bool) -> list[object]:
    refused = (is_foreign(network) or network.is_quantized for network in NETWORKS)
    return [
        parameter(network)
        for network, is_refused in zip(NETWORKS, refused, strict=True)
        if supported != is_refused and not any(Path(network.name).match(pattern) for pattern in MISSHAPEN)
    ]


@pytest.mark.parametrize("network", chosen(supported=True))
def test_a_network_computes_the_same_in_both_runtimes_in_fp32_and_fp16(
    network: ZooNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    symbol, params = write_checkpoint(network, tmp_path)
    inputs = zoo.inputs(network)
    arrays: dict[str, Any] = inputs  # numpy 2 types its flag among them
    np.savez(tmp_path / "inputs.npz", **arrays)
    ((name, shape),) = network.inputs.items()
    options: list[str | Path] = ["--symbol", symbol, "--params", params]
    options += ["--input", f"{name}={','.join(map(str, shape))}"]
    options += ["--outputs", ",".join(network.cuts)] if network.cuts else []
    sshtool("convert", *options, "--precision", "FP32,FP16", "--output-dir", tmp_path / "out", "--quiet")

    resolved, arrays = resolved_network(network, symbol, params)
    exact = list(evaluate(resolved, arrays | inputs).values())
    differences = {}
    for path in sorted((tmp_path / "out").rglob("*.onnx")) + sorted((tmp_path / "out").rglob("*.xml")):
        kind = "onnx" if path.suffix == ".onnx" else "openvino"
        rounding = format_of(path).read_rounding(path, resolved, arrays)
        expected = list(evaluate(resolved, arrays | inputs, rounding=rounding).values()) if rounding.rules else exact
        exporters_worker.KINDS[kind](str(path), str(tmp_path / "inputs.npz"), str(tmp_path / "found.npz"))
        differences[f"{kind} {path.parent.name}"] = zoo.difference(expected, read(tmp_path / "found.npz"))
    if find_spec("mxnet") and not network.undefined and not network.note.startswith("MXNetError: Failed loading"):
        differences["MXNet"] = zoo.difference(exact, run_mxnet(network, symbol, params, tmp_path))
    with capsys.disabled():
        sys.stdout.write(f"\n{network.name}: {', '.join(f'{key} {each:.0e}' for key, each in differences.items())} ")
    assert max(differences.values()) <= MOVING.get(network.name, TOLERANCE), differences


@pytest.mark.parametrize("network", chosen(supported=False))
def test_a_network_of_a_fork_or_a_quantized_one_is_refused_by_name_and_number(
    network: ZooNetwork, tmp_path: Path
) -> None:
    symbol = shutil.copy(network.symbol, tmp_path / "model-symbol.json")
    write_params(tmp_path / "model-0000.params", {})
    ((name, shape),) = network.inputs.items()
    options: tuple[str | Path, ...] = ("--symbol", symbol, "--params", tmp_path / "model-0000.params")
    result = sshtool("convert", *options, "--input", f"{name}={','.join(map(str, shape))}", code=1)
    (message,) = result.stderr.splitlines()
    counts = Counter(str(node["op"]) for node in network.nodes)
    for operator, count in counts.items():
        if network.is_quantized and operator == "_sg_mkldnn_conv":
            assert f"{count} of '{operator}'" in message
        elif FOREIGN.match(operator):
            others = f" and {count - 1} more" if count > 1 else ""
            assert f"{others}: operator {operator} (" in message


def test_a_training_network_without_outputs_is_told_the_tensors_before_its_loss(tmp_path: Path) -> None:
    if not NETWORKS:
        pytest.skip("the networks of the zoo are absent")
    (network,) = (network for network in NETWORKS if network.name == "mtcnn-head-pnet-train")
    symbol, params = write_checkpoint(network, tmp_path)
    files = ("--symbol", symbol, "--params", params)
    (message,) = sshtool("convert", *files, "--input", "data=4,3,12,12", code=1).stderr.splitlines()
    assert "negative_mining (1 Custom" in message
    assert "--outputs, such as" in message


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([[1.0, -2.0], [8.0]], 0.0, id="equal"),
        pytest.param([[1.0, -2.5], [8.0]], 0.25, id="relative to the largest of the output"),
        pytest.param([[8.0], [1.0, -2.0]], math.inf, id="another order"),
        pytest.param([[1.0, -2.0]], math.inf, id="an output less"),
        pytest.param([[1.0, math.nan], [8.0]], math.inf, id="not a number"),
    ],
)
def test_a_difference_is_the_worst_of_all_outputs(found: Sequence[Sequence[float]], expected: float) -> None:
    arrays = [np.array(values, np.float32) for values in found]
    assert zoo.difference([np.array([1, -2], np.float32), np.array([8], np.float32)], arrays) == expected


def test_rows_of_equal_scores_may_change_places_and_no_others() -> None:
    scores, boxes = np.array([[[0.9], [0.5], [0.5 + 1e-8]]]), np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    swapped, wrong = [0, 2, 1], [1, 0, 2]
    assert zoo.difference([scores, boxes], [scores[:, swapped], boxes[:, swapped]]) < 1e-7
    assert zoo.difference([scores, boxes], [scores[:, wrong], boxes[:, wrong]]) > 0.1
    assert zoo.difference([scores, boxes], [scores, boxes[:, [0, 1, 1]]]) > 0.1


def write_checkpoint(network: ZooNetwork, folder: Path) -> tuple[Path, Path]:
    """Write the network's files with MXNet's names, and seeded weights where it has none."""
    symbol, params = folder / f"{network.name}-symbol.json", folder / f"{network.name}-0000.params"
    shutil.copy(network.symbol, symbol)
    if network.trained:
        shutil.copy(network.trained, params)
        return symbol, params
    shapes, auxiliaries = parameter_shapes(network)
    write_params(params, zoo.parameters(network, shapes, auxiliaries))
    return symbol, params


def parameter_shapes(network: ZooNetwork) -> tuple[Mapping[str, Shape], Sequence[str]]:
    """Return the shapes that follow from the inputs or that the symbol notes."""
    graph = cut(read_symbol(network.symbol), network.cuts)
    resolved = resolve(graph, network.inputs, known=network.noted_shapes)
    return resolved.parameters(network.inputs), sorted(resolved.auxiliaries())


def resolved_network(network: ZooNetwork, symbol: Path, params: Path) -> tuple[Network, dict[str, Array]]:
    arrays = {name[4:]: array for name, array in read_params(params).items()}
    graph = cut(read_symbol(symbol), network.cuts)
    known = {name: array.shape for name, array in arrays.items()}
    return resolve(graph, network.inputs, known=known), arrays


def run_mxnet(network: ZooNetwork, symbol: Path, params: Path, folder: Path) -> list[Array]:
    import_mxnet()
    text = symbol.read_text("utf-8")
    cut_off = folder / "cut-symbol.json"
    cut_off.write_text(cut_symbol(text, network.cuts) if network.cuts else text, encoding="utf-8")
    labels = json.dumps(dict(network.labels))
    exporters_worker.answers(str(cut_off), str(params), str(folder / "inputs.npz"), labels, str(folder / "mxnet.npz"))
    return read(folder / "mxnet.npz")


def read(path: Path) -> list[Array]:
    with np.load(path) as data:
        return [data[name] for name in sorted(data.files)]
