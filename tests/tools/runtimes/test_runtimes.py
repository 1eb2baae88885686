from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration, declared
from sshconvert.convert import Artifact, convert
from sshconvert.errors import ArtifactError, RuntimeUnavailableError, UsageError
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshtool.demo.scenes import draw_scene
from sshtool.parity.layers import first_divergence
from sshtool.runtimes.base import Runtime, Settings, prepare, reason
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.runtimes.openvino import OpenVino
from sshtool.runtimes.registry import RUNTIMES

MODEL = load_model("ssh-mxnet")
SIZE = (96, 128)
IMAGES: npt.NDArray[np.uint8] = draw_scene(7, *SIZE).image[None]


@pytest.fixture(scope="module")
def artifacts(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    made = convert(checkpoint, tmp_path_factory.mktemp("artifacts"), Options(input_shape=(1, 3, *SIZE)))
    return {artifact.format: artifact for artifact in made}


@pytest.fixture(params=["onnx", "openvino", "openvino reads onnx", "mxnet"])
def runtime(request: pytest.FixtureRequest, artifacts: dict[str, Artifact], checkpoint: Checkpoint) -> Runtime:
    if request.param == "mxnet":
        request.getfixturevalue("mxnet")
        return load(checkpoint.params_path, MODEL)
    if request.param == "openvino reads onnx":
        return load(artifacts["onnx"].path, MODEL, key="openvino")
    return load(artifacts[request.param].path, MODEL)


def test_every_module_here_is_a_runtime_that_can_be_named() -> None:
    assert list(RUNTIMES) == ["mxnet", "ncnn", "onnxruntime", "openvino"]
    assert all(kind.key == key and kind.name and kind.suffixes() for key, kind in RUNTIMES.items())


def test_a_runtime_says_what_it_is_and_answers_in_the_models_order(runtime: Runtime, checkpoint: Checkpoint) -> None:
    assert str(runtime).startswith(runtime.name)
    assert runtime.version[0].isdecimal()
    assert runtime.settings == Settings("CPU", 0)
    assert runtime.declaration.weights == checkpoint.weights
    outputs = runtime.run(IMAGES)
    assert tuple(outputs) == MODEL.output_names
    assert all(array.dtype == np.float32 and len(array) == 1 for array in outputs.values())


def test_the_tensors_inside_agree_layer_by_layer(runtime: Runtime, artifacts: dict[str, Artifact]) -> None:
    expected = OnnxRuntime(artifacts["onnx"].path).layers(IMAGES)
    found = runtime.layers(IMAGES)
    assert set(MODEL.output_names) <= set(found)
    divergence = first_divergence("a", "b", expected, found, 1e-4)
    assert not divergence.layer
    assert divergence.compared >= 55


def test_the_usual_runtime_depends_on_the_file(artifacts: dict[str, Artifact]) -> None:
    assert isinstance(load(artifacts["onnx"].path, MODEL), OnnxRuntime)
    assert isinstance(load(artifacts["openvino"].path, MODEL), OpenVino)
    assert isinstance(load(artifacts["onnx"].path, MODEL, key="openvino"), OpenVino)


@pytest.mark.parametrize("key", ["onnxruntime", "openvino"])
def test_threads_are_settable_and_change_nothing(key: str, artifacts: dict[str, Artifact]) -> None:
    path = artifacts["onnx"].path
    one, usual = (load(path, MODEL, Settings(threads=threads), key=key) for threads in (1, 0))
    assert one.settings.threads == 1
    for name, array in usual.run(IMAGES).items():
        np.testing.assert_allclose(one.run(IMAGES)[name], array, atol=1e-5)
    if isinstance(one, OpenVino):
        assert one._compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.usefixtures("mxnet")
def test_mxnets_threads_are_set_before_it_reads_them(checkpoint: Checkpoint, monkeypatch: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    Mxnet(checkpoint, Settings(threads=2))
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_unknown_device_is_refused_with_those_that_are_there(form: str, artifacts: dict[str, Artifact]) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"TOASTER.*CPU"):
        load(artifacts[form].path, MODEL, Settings(device="TOASTER"))


AT_ONCE = """
import sys, threading
from pathlib import Path
import numpy as np
from sshconvert.models.registry import load_model
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
sys.setswitchinterval(1e-6)  # threads take turns in the worst places
runtime = load(Path(sys.argv[1]), load_model("ssh-mxnet"), Settings(throughput=True, requests=4))
barrier = threading.Barrier(4)
def run():
    barrier.wait()
    runtime.run(np.zeros((1, 96, 128, 3), np.uint8))
for thread in [threading.Thread(target=run) for _ in range(4)]:
    thread.start()
"""


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_threads_that_all_begin_at_once_do_not_wait_for_each_other_for_ever(
    kind: str, artifacts: dict[str, Artifact]
) -> None:
    for _ in range(4):  # without what prevents it, OpenVINO stops in five of six processes
        subprocess.run([sys.executable, "-c", AT_ONCE, str(artifacts[kind].path)], check=True, timeout=60)


@pytest.mark.usefixtures("mxnet")
def test_mxnet_as_released_computes_on_the_cpu_only(checkpoint: Checkpoint) -> None:
    with pytest.raises(RuntimeUnavailableError, match="no device GPU"):
        Mxnet(checkpoint, Settings(device="GPU"))


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("model.onnx", "tensorflow", "--runtime: tensorflow"),
        ("model.tflite", "", r"\.onnx or"),
        ("model.xml", "onnxruntime", r"ONNX Runtime .*\.onnx"),
    ],
)
def test_a_runtime_that_does_not_fit_is_a_wrong_usage(name: str, key: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path / name, MODEL, key=key)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_that_is_missing_or_no_model_is_an_error_of_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    with pytest.raises(ArtifactError, match=path.name):
        load(path, MODEL)
    path.write_bytes(b"<net nonsense")
    with pytest.raises(ArtifactError, match=f"{path}: .*convert"):
        load(path, MODEL)


def test_images_of_another_size_than_the_file_takes_are_refused(runtime: Runtime) -> None:
    other = draw_scene(1, 64, 64).image[None]
    if isinstance(runtime, Mxnet):
        assert runtime.run(other)["rpn_bbox_pred_stride8"].shape == (1, 8, 8, 8)
        return
    with pytest.raises(ArtifactError, match=r"1, 64, 64, 3"):
        runtime.run(other)


@pytest.mark.parametrize("declaration", [("RGB", "0 0 0"), ("BGR", "123.68 116.779 103.939")], ids=["RGB", "mean"])
def test_a_wrong_declaration_in_the_file_shows_in_the_outputs(
    declaration: tuple[str, str], artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    model = onnx.load(artifacts["onnx"].path)
    for entry in model.metadata_props:
        if entry.key in ("color_order", "mean_values"):
            entry.value = declaration[entry.key == "mean_values"]
    onnx.save(model, tmp_path / "wrong.onnx")
    expected = load(artifacts["onnx"].path, MODEL).run(IMAGES)
    found = load(tmp_path / "wrong.onnx", MODEL).run(IMAGES)
    assert max(float(np.abs(found[name] - array).max()) for name, array in expected.items()) > 1e-2


def test_what_a_file_declares_is_what_it_is_fed() -> None:
    images: npt.NDArray[np.uint8] = np.array([[[[10, 20, 30]]]], np.uint8)
    bgr = prepare(images, Declaration())
    rgb = prepare(images, Declaration(color_order="RGB", mean_values=(3, 2, 1)))
    assert bgr.shape == (1, 3, 1, 1)
    assert bgr.ravel().tolist() == [10, 20, 30]
    assert rgb.ravel().tolist() == [27, 18, 9]


def test_a_file_that_says_nothing_takes_raw_bgr_of_its_shape() -> None:
    declaration = declared(Path("a.onnx"), {}, [1, 3, "height", None])
    assert declaration == Declaration((1, 3, None, None), "NCHW", "float32", "BGR", (0, 0, 0), "", "")


def test_a_file_that_takes_images_as_they_are_gets_them_so() -> None:
    declaration = declared(
        Path("a.onnx"), {"input_layout": "NHWC", "color_order": "RGB"}, [None, 7, 9, 3], input_type="uint8"
    )
    assert declaration.input_shape == (None, 3, 7, 9)
    images = np.arange(2 * 7 * 9 * 3, dtype=np.uint8).reshape(2, 7, 9, 3)
    fed = prepare(images, declaration)
    assert fed.dtype == np.uint8
    np.testing.assert_array_equal(fed, images[..., ::-1])


@pytest.mark.parametrize(
    ("layout", "kind", "mean"),
    [("HWCN", "float32", "0 0 0"), ("NCHW", "float64", "0 0 0"), ("NCHW", "uint8", "1 2 3")],
)
def test_an_input_that_sshtool_does_not_make_is_refused(layout: str, kind: str, mean: str) -> None:
    with pytest.raises(ArtifactError, match="convert again"):
        declared(Path("a.onnx"), {"input_layout": layout, "mean_values": mean}, [1, 3, 7, 9], input_type=kind)


@pytest.mark.parametrize(
    ("metadata", "shape"),
    [
        ({"color_order": "GBR"}, [1, 3, 8, 8]),
        ({"mean_values": "1 2"}, [1, 3, 8, 8]),
        ({"mean_values": "a b c"}, [1, 3, 8, 8]),
        ({"mean_values": "nan 0 0"}, [1, 3, 8, 8]),
        ({"mean_values": "0 1000001 0"}, [1, 3, 8, 8]),
        ({}, [3, 8, 8]),
        ({}, [1, 4, 8, 8]),
        ({}, [2, 3, 8192, 4097]),
    ],
    ids=[
        "colour",
        "two means",
        "words",
        "nan",
        "a mean of a million",
        "three dimensions",
        "four channels",
        "pixels",
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(metadata: dict[str, str], shape: list[int]) -> None:
    with pytest.raises(ArtifactError, match=r"a\.onnx"):
        declared(Path("a.onnx"), metadata, shape)


def test_what_a_runtime_says_is_one_line_that_a_person_reads() -> None:
    assert reason(RuntimeError("no\n  such thing")) == "no such thing"
    assert reason(RuntimeError("a" * 301)) == "a" * 300 + "…"


def test_fp16_declares_itself(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(precisions=(Precision.FP16,), input_shape=(1, 3, 64, 64))
    for artifact in convert(checkpoint, tmp_path, options):
        declaration = load(artifact.path, MODEL).declaration
        assert (declaration.precision, declaration.weights) == ("FP16", checkpoint.weights)
        assert declaration.input_shape == (1, 3, 64, 64)
