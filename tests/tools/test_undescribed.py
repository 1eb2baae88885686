"""Networks without a description, through the command line: real ones, and small ones for every way to name files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from command_line import sshtool
from many_calls import calls_in
from sshconvert.arrays import Array
from sshconvert.mxnet.params import read_params, write_params

MOST: Final = 5e-5  # of a difference of FP32, as a share of the output's largest value


class Network(NamedTuple):
    """A network of the data folder, its parameters if they have another name, and its options."""

    options: Sequence[str]
    params: str = ""


NETWORKS: Final = {
    "retinaface-mnet25": Network(["--input", "data=1,3,160,160"]),
    "insightface-gender-age": Network(["--input", "data=1,3,112,112"]),
    "mobilefacenet-y1": Network(["--input", "data=1,3,112,112"]),
    "mobileface-identification-v1": Network(["--input", "data=1,1,112,112"]),
    "mtcnn-det1-v0.8": Network(["--input", "data=1,3,97,131"]),
    "mtcnn-det3-v0.8": Network(["--input", "data=1,3,48,48"]),
    "mtcnn-det4-v0.8": Network(["--input", "data=1,15,24,24"]),
    "cnocr-densenet-lite-gru-azurlane": Network(
        ["--input", "data=4,1,32,280", "--outputs", "softmaxactivation0"], params="cnocr-azurlane"
    ),
    "mtcnn-head-pnet-train": Network(
        ["--input", "data=4,3,12,12", "--outputs", "cls_prob,bbox_pred"], params="mtcnn-head-pnet"
    ),
    "mtcnn-det1-v0.8 as an image": Network(
        ["--input", "data=1,3,97,131", "--mean", "127.5", "--scale", "0.0078125", "--color", "rgb"]
    ),
    "mobilefacenet-y1 as an image": Network(["--input", "data=1,3,112,112", "--color", "rgb"]),
}


@pytest.fixture(scope="module")
def zoo(shared_data: Path) -> Path:
    return shared_data / "zoo"


def files_of(zoo: Path, name: str, params: str = "") -> list[str]:
    name, *_ = name.split()
    return ["--symbol", str(zoo / f"symbols/{name}.json"), "--params", str(zoo / f"params/{params or name}.params")]


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_network_computes_what_mxnet_computes(name: str, zoo: Path, tmp_path: Path) -> None:
    options = [*files_of(zoo, name, NETWORKS[name].params), *NETWORKS[name].options, "-o", str(tmp_path), "--quiet"]
    sshtool("convert", *options, "--precision", "FP32,FP16")
    report = json.loads(sshtool("verify", *options, "--json").stdout)["result"]["report"]
    assert report["passed"], report["failures"]
    assert [item["label"] for item in report["artifacts"]] == [
        "onnx FP32",
        "openvino FP32",
        "onnx FP16",
        "openvino FP16",
    ]
    for artifact in report["artifacts"]:
        assert len(artifact["samples"]) >= 7
        compared = [tensor for sample in artifact["samples"] for tensor in sample["tensors"]]
        assert {tensor["output"] for tensor in compared} == set(report["outputs"])
        if artifact["profile"]["name"] == "FP32":
            assert all(tensor["atol"] <= MOST * 1e4 for tensor in compared)


@pytest.mark.usefixtures("mxnet")
def test_other_weights_and_another_order_of_channels_are_found(zoo: Path, tmp_path: Path) -> None:
    files = files_of(zoo, "mtcnn-det3-v0.8")
    arrays = {name: np.array(array) for name, array in read_params(Path(files[3])).items()}
    arrays["arg:conv1_weight"] = arrays["arg:conv1_weight"][:, ::-1]
    other = tmp_path / "other.params"
    write_params(other, arrays)
    options = ["--input", "data=1,3,48,48", "-o", str(tmp_path), "--quiet"]
    sshtool("convert", *files, *options, "--format", "onnx")
    found = json.loads(sshtool("verify", *files[:2], "--params", other, *options, "--json", code=3).stdout)
    failures = found["result"]["report"]["failures"]
    assert {"tensor", "weights"} <= {item["check"] for item in failures}


# --- small networks ---------------------------------------------------------------------------------------------------

CONVOLUTION: Final = {"kernel": "(1, 1)", "num_filter": "4", "no_bias": "True"}


def node(operator: str, name: str, *inputs: int, **attributes: str) -> dict[str, Any]:
    return {"op": operator, "name": name, "attrs": attributes, "inputs": [[number, 0, 0] for number in inputs]}


def write_symbol(path: Path, nodes: Sequence[Mapping[str, Any]], *heads: int) -> None:
    variables = [number for number, item in enumerate(nodes) if item["op"] == "null"]
    document = {
        "nodes": nodes,
        "arg_nodes": variables,
        "node_row_ptr": [*range(len(nodes) + 1)],
        "heads": [[head, 0, 0] for head in heads],
        "attrs": {"mxnet_version": ["int", 10900]},
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def small_network(folder: Path, arrays: Mapping[str, Array], *, shape: str = "") -> Path:
    """Write a convolution, a normalisation and a loss head, `net-symbol.json`, and parameters, `net-0012.params`."""
    stated = {"__shape__": shape} if shape else {}
    nodes = [
        node("null", "data", **stated),
        node("null", "weight"),
        node("Convolution", "conv", 0, 1, **CONVOLUTION),
        *(node("null", f"bn_{name}") for name in ("gamma", "beta", "moving_mean", "moving_var")),
        node("BatchNorm", "bn", 2, 3, 4, 5, 6, fix_gamma="False", eps="2e-5"),
        node("null", "label"),
        node("SoftmaxOutput", "prob", 7, 8, multi_output="True"),
    ]
    write_symbol(folder / "net-symbol.json", nodes, 9)
    write_params(folder / "net-0012.params", arrays)
    return folder / "net"


def parameters(prefixes: tuple[str, str] = ("arg:", "aux:"), statistic: str = "moving") -> dict[str, Array]:
    random = np.random.default_rng(3)
    arg, aux = prefixes
    return {
        f"{arg}weight": random.normal(size=(4, 3, 1, 1)).astype(np.float32),
        f"{arg}bn_gamma": random.normal(size=4).astype(np.float32),
        f"{arg}bn_beta": random.normal(size=4).astype(np.float32),
        f"{aux}bn_{statistic}_mean": random.normal(size=4).astype(np.float32),
        f"{aux}bn_{statistic}_var": random.random(4).astype(np.float32) + np.float32(0.5),
    }


SPELLINGS: Final = {
    "prefixes": parameters(),
    "no prefixes": parameters(("", "")),
    "Gluon's running_mean": parameters(statistic="running"),
    "running_mean without prefixes": parameters(("", ""), "running"),
    "parameters of a head that was cut off": parameters() | {"arg:fc7_weight": np.ones((2, 4), np.float32)},
}


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("arrays", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_parameters_is_the_same_network(arrays: Mapping[str, Array], tmp_path: Path) -> None:
    prefix = small_network(tmp_path, arrays)
    options = ["--checkpoint", str(prefix), "--epoch", "12", "--input", "data=2,3,5,7", "-o", str(tmp_path), "-q"]
    notes = json.loads(sshtool("convert", *options, "--json").stdout)["result"]["notes"]
    expected = ["parameters that no node reads are left out: arg:fc7_weight"] if "arg:fc7_weight" in arrays else []
    assert notes == expected
    report = json.loads(sshtool("verify", *options, "--json").stdout)["result"]["report"]
    assert report["passed"], report["failures"]
    assert report["model"] == "net"
    assert report["outputs"] == ["prob"]


@pytest.mark.usefixtures("mxnet")
def test_inner_tensors_are_outputs_in_the_given_order(tmp_path: Path) -> None:
    small_network(tmp_path, parameters(), shape="(1, 3, 4, 4)")
    options = ["--params", str(tmp_path / "net-0012.params"), "--outputs", "prob_output,conv", "-o", str(tmp_path)]
    sshtool("convert", *options, "--dynamic", "all")
    report = json.loads(sshtool("verify", *options, "--json").stdout)["result"]["report"]
    assert report["passed"], report["failures"]
    assert report["outputs"] == ["prob", "conv"]
    for artifact in report["artifacts"]:
        assert artifact["declaration"]["tensors"] == [{"name": "data", "dtype": "float32", "shape": [-1, 3, -1, -1]}]
        assert artifact["samples"][-1]["sample"] == "other-size"


@pytest.mark.usefixtures("mxnet")
def test_inputs_of_other_types_and_ranks_are_fed_as_they_are(tmp_path: Path) -> None:
    nodes = [node("null", name) for name in ("data", "weight", "state")]
    nodes += [
        node("FullyConnected", "fc", 0, 1, num_hidden="4", no_bias="True"),
        node("elemwise_add", "sum", 3, 2),
    ]
    write_symbol(tmp_path / "two-symbol.json", nodes, 4)
    write_params(
        tmp_path / "two-0000.params", {"arg:weight": np.random.default_rng(1).normal(size=(4, 9)).astype("f4")}
    )
    options = ["--params", str(tmp_path / "two-0000.params"), "--input", "data=3,9", "--input", "state=3,4"]
    options += ["-o", str(tmp_path), "-q"]
    sshtool("convert", *options, "--precision", "FP32,FP16")
    report = json.loads(sshtool("verify", *options, "--self-test", "--json").stdout)["result"]
    assert report["report"]["passed"]
    assert report["self_test"]["passed"]
    names = [[item["name"] for item in one["declaration"]["tensors"]] for one in report["report"]["artifacts"]]
    assert names == [["data", "state"]] * 4


@pytest.mark.usefixtures("mxnet")
def test_indices_and_clips_are_inputs_with_free_sizes(tmp_path: Path) -> None:
    nodes = [
        node("null", "ids"),
        node("null", "table"),
        node("Embedding", "rows", 0, 1, input_dim="8", output_dim="5"),
        node("null", "clip"),
        node("null", "weight"),
        node("Convolution", "conv", 3, 4, kernel="(2, 2, 2)", num_filter="4", no_bias="True"),
        node("mean", "clip_mean", 5, axis="(2, 3, 4)"),
    ]
    write_symbol(tmp_path / "clip-symbol.json", nodes, 2, 6)
    random = np.random.default_rng(2)
    shapes = {"arg:table": (8, 5), "arg:weight": (4, 3, 2, 2, 2)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    write_params(tmp_path / "clip-0000.params", arrays)
    options = ["--params", str(tmp_path / "clip-0000.params"), "-o", str(tmp_path), "-q"]
    options += ["--input", "ids=2,6:int64", "--input", "clip=1,3,4,6,6"]
    sshtool("convert", *options, "--dynamic", "all")
    report = json.loads(sshtool("verify", *options, "--json").stdout)["result"]["report"]
    assert report["passed"], report["failures"]
    for artifact in report["artifacts"]:
        declared = {item["name"]: (item["dtype"], item["shape"]) for item in artifact["declaration"]["tensors"]}
        assert declared == {"ids": ("int64", [-1, 6]), "clip": ("float32", [-1, 3, -1, -1, -1])}
        assert artifact["samples"][-1]["sample"] == "other-size"


@pytest.mark.usefixtures("mxnet")
def test_a_network_of_tensors_is_packaged_checked_and_measured(tmp_path: Path) -> None:
    prefix = small_network(tmp_path, parameters())
    options = ["--checkpoint", str(prefix), "--epoch", "12", "--input", "data=1,3,6,6", "-o", str(tmp_path), "-q"]
    made = json.loads(sshtool("run", *options, "--json").stdout)["result"]
    assert made["picture"] is None
    package = Path(made["package"])
    checked = json.loads(sshtool("check", package, "--rebuild", tmp_path / "net-0012.params", "--json").stdout)[
        "result"
    ]
    assert {"answers", "rebuild"} <= set(checked["checks"])
    assert len(checked["parity"]) == 4
    (package / "FP32" / "net.onnx").write_bytes((package / "FP16" / "net.onnx").read_bytes())
    sshtool("check", package, code=3)
    speeds = json.loads(sshtool("bench", *options, "--runs", "2", "--rounds", "1", "--json").stdout)["result"]
    assert {tuple(item["input_shape"]) for item in speeds["candidates"]} == {(1, 3, 6, 6)}
    assert "mxnet FP32" in {item["label"] for item in speeds["candidates"]}


@pytest.mark.parametrize(
    "runtimes",
    [pytest.param([], marks=pytest.mark.long, id="all"), pytest.param(["--runtime", "onnxruntime"], id="one")],
)
def test_artifacts_are_measured_whether_or_not_mxnet_is_installed(runtimes: list[str], tmp_path: Path) -> None:
    small_network(tmp_path, parameters())
    options = ["--params", str(tmp_path / "net-0012.params"), "--input", "data=1,3,6,6", "-o", str(tmp_path), "-q"]
    sshtool("convert", *options, "--format", "onnx")
    speeds = json.loads(sshtool("bench", *options, *runtimes, "--runs", "2", "--rounds", "1", "--json").stdout)
    labels = [item["label"].removesuffix(" (onnxruntime)") for item in speeds["result"]["candidates"]]
    by_mxnet = find_spec("mxnet") is not None and not runtimes
    assert labels == ["onnx FP32", *(["mxnet FP32"] if by_mxnet else [])]


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: Final = {
    "no shape": ([], "convert", "the shapes of its inputs data are not known; give each, for example --input data="),
    "an unknown input": (["--input", "image=1,3,4,4"], "convert", "has no input image; its inputs are data"),
    "an unknown output": (["--input", "data=1,3,4,4", "--outputs", "x"], "convert", "no operator computes x"),
    "no shape of an input": (["--input", "data"], "convert", "is not NAME=SHAPE"),
    "a letter among sizes": (["--input", "data=1,3,x"], "convert", "is not NAME=SHAPE"),
    "a size left out": (["--input", "data=1,,3,4"], "convert", "is not NAME=SHAPE"),
    "an unknown type": (["--input", "data=1,3,4,4:float8"], "convert", "dtype"),
    "a mean of two": (["--input", "data=1,3,4,4", "--mean", "1,2"], "convert", "not three numbers from 0 to 255"),
    "an image of rank 2": (["--input", "data=1,3", "--color", "rgb"], "convert", "an image's shape is"),
    "a model too": (["--input", "data=1,3,4,4", "--model", "ssh-mxnet"], "convert", "contradict each other"),
    "channels last": (["--input", "data=1,3,4,4", "--input-layout", "NHWC"], "convert", "NHWC needs an image"),
    "bytes": (["--input", "data=1,3,4,4", "--input-dtype", "u8"], "convert", "uint8 needs an image"),
    "another colour": (["--input", "data=1,3,4,4", "--input-color", "rgb"], "convert", "--color"),
    "a batch": (["--input", "data=1,3,4,4", "--batch", "2"], "convert", "give their shapes with --input"),
    "a shape": (["--input", "data=1,3,4,4", "--input-shape", "1,3,8,8"], "convert", "with --input"),
    "INT8": (["--input", "data=1,3,4,4", "--precision", "INT8"], "convert", "needs a network that takes an image"),
    "post-processing": (
        ["--input", "data=1,3,4,4", "--postprocess"],
        "convert",
        "post-processing inside needs an image",
    ),
    "a shape of a pack": (["--input", "data=1,3,4,4", "--input-shape", "1,3,8,8"], "reference", "with --input"),
    "images": (["--input", "data=1,3,4,4", "--images", "x.jpg"], "verify", "takes tensors, not images"),
    "a detector": (
        ["x.jpg", "--input", "data=1,3,4,4"],
        "detect",
        "net: has the task tensors, which detects nothing",
    ),
    "a batch of a bench": (["--input", "data=1,3,4,4", "--batch", "2"], "bench", "give their shapes with --input"),
}


def test_what_makes_no_sense_for_tensors_is_refused_in_one_line(tmp_path: Path) -> None:
    small_network(tmp_path, parameters())
    files = ["--params", str(tmp_path / "net-0012.params"), "-o", str(tmp_path), "--quiet", "--json"]
    sshtool("convert", *files, "--input", "data=1,3,4,4")
    calls = [[verb, *options, *files] for options, verb, _ in REFUSED.values()]
    for (_, printed), (name, (_, _, message)) in zip(calls_in(tmp_path / "calls", calls), REFUSED.items(), strict=True):
        document = json.loads(printed[: printed.rindex("}") + 1])
        assert message in document["error"]["message"], name
        assert document["ok"] is False, name


def test_a_symbol_that_is_not_beside_its_parameters_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "det1-0001.params").touch()
    refused = sshtool("convert", "--params", tmp_path / "det1-0001.params", "--input", "data=1,3,8,8", code=2)
    assert (
        f"{tmp_path / 'det1-symbol.json'} does not exist; put the symbol there, or give --symbol FILE" in refused.stderr
    )


def test_parameters_of_save_parameters_are_refused_with_the_remedy(tmp_path: Path) -> None:
    small_network(tmp_path, {f"features.{number}": array for number, array in enumerate(parameters().values())})
    files = ["--params", str(tmp_path / "net-0012.params"), "--input", "data=1,3,4,4", "-o", str(tmp_path), "-q"]
    assert "Gluon's save_parameters wrote it" in sshtool("convert", *files, code=1).stderr


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_describes_a_network_with_and_without_weights_and_shapes(tmp_path: Path) -> None:
    small_network(tmp_path, parameters())
    symbol, params = tmp_path / "net-symbol.json", tmp_path / "net-0012.params"
    ways: dict[str, Sequence[str | Path]] = {
        "all": ["--symbol", symbol, "--params", params, "--input", "data=1,3,4,4"],
        "no weights": ["--symbol", symbol, "--input", "data=1,3,4,4"],
        "no shape": ["--params", params],
        "a folder": ["--checkpoint", tmp_path],
    }
    described = {name: json.loads(sshtool("info", *way, "--json").stdout)["result"] for name, way in ways.items()}
    for result in described.values():
        assert result["operators"] == {"BatchNorm": 1, "Convolution": 1, "SoftmaxOutput": 1}
        assert result["unsupported"] == {}
        assert list(result["inputs"]) == ["data"]
        assert list(result["outputs"]) == ["prob"]
    assert described["all"]["outputs"] == described["no weights"]["outputs"] == {"prob": [1, 4, 4, 4]}
    assert described["all"]["mparams"] == described["no weights"]["mparams"] == 28e-6
    assert described["all"]["gflops"] == described["no weights"]["gflops"] > 0
    assert described["no weights"]["weights"] == ""
    assert described["all"]["weights"].startswith("params-sha256:")
    for name in ("no shape", "a folder"):
        assert described[name]["outputs"] == {"prob": None}
        assert described[name]["problem"] == "the shape of data is not known; give --input data=SHAPE"


def test_info_lists_what_is_not_supported_and_does_not_fail(tmp_path: Path) -> None:
    nodes = [node("null", "data"), node("Mystery", "a", 0), node("Mystery", "b", 1), node("Activation", "c", 2)]
    write_symbol(tmp_path / "odd-symbol.json", nodes, 3)
    result = json.loads(sshtool("info", "--symbol", tmp_path / "odd-symbol.json", "--json").stdout)["result"]
    assert result["operators"] == {"Activation": 1, "Mystery": 2}
    assert next(iter(result["unsupported"].items())) == ("Mystery", 2)
    assert any(problem.startswith("Activation: attribute act_type is missing") for problem in result["unsupported"])
    assert (result["gflops"], result["outputs"]) == (None, {"c": None})


def test_info_counts_the_operators_of_forks(zoo: Path) -> None:
    symbol = zoo / "symbols/bmxnet-mnist.json"
    result = json.loads(sshtool("info", "--symbol", symbol, "--json").stdout)["result"]
    unknown = {problem.split()[0]: count for problem, count in result["unsupported"].items()}
    assert unknown == {"QActivation": 2, "QConvolution": 1, "QFullyConnected": 1}


def test_info_describes_a_network_that_ends_in_losses(tmp_path: Path) -> None:
    nodes = [node("null", "data"), node("Activation", "act", 0, act_type="relu"), node("MakeLoss", "loss", 1)]
    write_symbol(tmp_path / "trained-symbol.json", nodes, 2)
    options = ["--symbol", str(tmp_path / "trained-symbol.json"), "--input", "data=2,3", "--json"]
    whole, inner = (
        json.loads(sshtool("info", *options, *more).stdout)["result"] for more in ((), ("--outputs", "act"))
    )
    assert whole["operators"] == {"Activation": 1, "MakeLoss": 1}
    assert "choose outputs before them with --outputs, such as act" in whole["problem"]
    assert (inner["problem"], inner["outputs"]) == ("", {"act": [2, 3]})
