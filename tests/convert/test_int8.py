"""INT8: the levels that NNCF measures, the pass that puts them into a network, and what comes of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert import calibration
from sshconvert.arrays import Images
from sshconvert.calibration import CalibrationImages, calibrate, original, rank_layers
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, convert, to_onnx
from sshconvert.errors import ImageError, PrecisionError
from sshconvert.formats.registry import format_of
from sshconvert.libraries import import_onnxruntime
from sshconvert.models.registry import load_model
from sshconvert.nncf import import_nncf, silenced
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.passes.int8 import Quantization, Quantize
from sshconvert.tasks.average_precision import average_precision
from sshtool.candidates import Candidate
from sshtool.conversion import convert_checkpoint
from sshtool.demo.scenes import draw_scene
from sshtool.parity.faults import faults_of
from sshtool.parity.reference import LiveReference
from sshtool.parity.selftest import Verdict, self_test
from sshtool.parity.verify import verify
from sshtool.quantization import QuantizationOptions, calibration_images, quantization_for
from sshtool.runtimes.base import Outputs
from sshtool.runtimes.loading import load
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = 128
SHAPE: Final = (1, 3, SIZE, SIZE)
INT8: Final = Options(precisions=(Precision.INT8,), input_shape=SHAPE)
BOTH: Final = replace(INT8, precisions=(Precision.FP32, Precision.INT8))
IN_FLOAT: Final = [f"rpn_{kind}_stride{stride}" for stride in (32, 16, 8) for kind in ("cls_score", "bbox_pred")]


def scenes(count: int = 4, first: int = 300_000) -> CalibrationImages:
    return CalibrationImages(
        count, lambda number: draw_scene(first + number, SIZE, SIZE).image, {"calibration": "scenes"}
    )


def images(first: int = 500_000) -> Images:
    return draw_scene(first, SIZE, SIZE).image[None]


@pytest.fixture(scope="module")
def made_by_nncf(plain_checkpoint: Checkpoint) -> onnx.ModelProto:
    """The network as NNCF itself quantizes it."""
    nncf, plain = import_nncf(), original(plain_checkpoint, INT8)
    feed = calibration._feeder(MODEL, scenes(), lambda _step, _done, _total: None)
    with silenced():
        return calibration._quantized(nncf, plain, calibration._ends(plain), nncf.Dataset(range(4), feed), 4)


@pytest.fixture(scope="module")
def quantization(plain_checkpoint: Checkpoint, made_by_nncf: onnx.ModelProto) -> Quantization:
    """What `calibrate` makes of it, in which nothing else happens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_quantized", lambda *_: made_by_nncf)
        return calibrate(plain_checkpoint, INT8, scenes())


@pytest.fixture(scope="module")
def artifacts(
    plain_checkpoint: Checkpoint, quantization: Quantization, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    """FP32 and INT8 by format and precision."""
    made = convert(plain_checkpoint, tmp_path_factory.mktemp("int8"), BOTH, quantization=quantization)
    return {(artifact.format, artifact.precision.value): artifact for artifact in made}


def outputs(artifact: Artifact, pixels: Images) -> Outputs:
    return load(artifact.path, MODEL).run(pixels)


def largest_difference(one: Outputs, other: Outputs) -> float:
    assert list(one) == list(other)
    return max(float(np.abs(one[name] - other[name]).max() / np.abs(other[name]).max()) for name in one)


# --- what is made -----------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_same_quantized_network(artifacts: dict[tuple[str, str], Artifact]) -> None:
    found = {kind: outputs(artifact, images()) for kind, artifact in artifacts.items()}
    exact = found["onnx", "FP32"]
    for kind in ("onnx", "openvino"):
        assert 1e-4 < largest_difference(found[kind, "INT8"], exact) < 0.25
    assert largest_difference(found["onnx", "INT8"], found["openvino", "INT8"]) < 0.1


def test_the_files_are_smaller_than_half(artifacts: dict[tuple[str, str], Artifact]) -> None:
    sizes = {key: sum(path.stat().st_size for path in artifact.files) for key, artifact in artifacts.items()}
    assert sizes["onnx", "INT8"] <= 0.45 * sizes["onnx", "FP32"]
    assert sizes["openvino", "INT8"] <= 0.45 * sizes["openvino", "FP32"]


def test_weights_are_integers_but_for_the_heads(
    artifacts: dict[tuple[str, str], Artifact], plain_checkpoint: Checkpoint
) -> None:
    model = onnx.load(artifacts["onnx", "INT8"].path)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4)
    assert kinds == {onnx.TensorProto.INT8: 32, onnx.TensorProto.FLOAT: len(IN_FLOAT) + 1}  # and the mean
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in IN_FLOAT:
        np.testing.assert_array_equal(kept[f"{name}_weight"], plain_checkpoint.parameters[f"{name}_weight"])
    integers = re.findall(r'element_type="i8"', artifacts["openvino", "INT8"].path.read_text(encoding="utf-8"))
    assert len(integers) == 32


def test_the_pass_computes_what_nncf_computes(
    plain_checkpoint: Checkpoint, quantization: Quantization, made_by_nncf: onnx.ModelProto, tmp_path: Path
) -> None:
    """NNCF's own network and ours, the same to the bit: nothing was lost on the way."""
    Quantize(quantization).apply(original(plain_checkpoint, INT8)).write(tmp_path / "ours.onnx")
    onnx.save(made_by_nncf, tmp_path / "theirs.onnx")
    feed = calibration._feeder(MODEL, scenes(), lambda _step, _done, _total: None)
    runtime = import_onnxruntime()
    made = [
        runtime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, feed(1))
        for name in ("ours.onnx", "theirs.onnx")
    ]
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)


COMBINATIONS: Final = {
    "batch": replace(INT8, input_shape=(2, 3, SIZE, SIZE)),
    "dynamic": replace(INT8, dynamic=Dynamic.ALL),
    "frames": replace(INT8, layout=Layout.NHWC, input_type=InputType.UINT8, color=Color.RGB),
    "original input": replace(INT8, preprocessing=False),
    "faces": replace(INT8, postprocessing=Postprocessing(keep_heads=True)),
    "all": replace(
        INT8,
        dynamic=Dynamic.ALL,
        layout=Layout.NHWC,
        input_type=InputType.UINT8,
        postprocessing=Postprocessing(keep_heads=True),
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_input_and_output_option_leaves_the_quantized_network_as_it_is(
    name: str,
    plain_checkpoint: Checkpoint,
    quantization: Quantization,
    artifacts: dict[tuple[str, str], Artifact],
    tmp_path: Path,
) -> None:
    for artifact in convert(plain_checkpoint, tmp_path, COMBINATIONS[name], quantization=quantization):
        found = outputs(artifact, np.repeat(images(), 2 if name == "batch" else 1, axis=0))
        expected = outputs(artifacts[artifact.format, "INT8"], images())
        heads = {output: found[output][:1] for output in expected}
        assert largest_difference(heads, expected) < 0.05


def test_a_dynamic_file_takes_other_sizes(
    plain_checkpoint: Checkpoint, quantization: Quantization, tmp_path: Path
) -> None:
    options = replace(BOTH, dynamic=Dynamic.ALL)
    made = convert(plain_checkpoint, tmp_path, options, quantization=quantization)
    pixels = np.stack([draw_scene(seed, 96, 160).image for seed in (1, 2)])
    exact, _, *quantized = [outputs(artifact, pixels) for artifact in made]
    for found in quantized:
        assert largest_difference(found, exact) < 0.25


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several sizes and kinds, and what is none."""
    made = tmp_path / "photos"
    made.mkdir()
    for seed, (height, width, name) in enumerate([(100, 160, "a.png"), (300, 80, "b ä.jpg"), (64, 64, "c.bmp")]):
        Image.fromarray(draw_scene(seed, height, width).image[..., ::-1].copy()).save(made / name)
    (made / "notes.txt").write_text("no image", encoding="utf-8")
    return made


SMALL: Final = ["--precision", "INT8", "--input-shape", "1,3,64,64", "--quiet"]


def digests(folder: Path) -> dict[str, str]:
    files = sorted((folder / "ssh-mxnet" / "INT8").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.long
def test_two_processes_write_the_same_bytes_nothing_else_and_say_nothing(
    plain_checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "sshtool", "convert", "--checkpoint", str(plain_checkpoint.params_path)]
    command += ["--calibration-data", str(folder), *SMALL, "-o", "out", "--json"]
    for seed in ("1", "2"):
        place = tmp_path / seed
        place.mkdir()
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": seed, "HOME": str(place / "home")},
        )
        assert result.stderr == ""
        said = json.loads(result.stdout)["result"]
        assert [item["precision"] for item in said["artifacts"]] == ["INT8", "INT8"]
        assert "3 images" in " ".join(said["notes"])
        assert [path.name for path in place.iterdir()] == ["out"]
    first, second = (digests(tmp_path / seed / "out") for seed in ("1", "2"))
    assert first == second
    assert len(first) == 3


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_both_files_say_how_they_were_quantized_and_info_shows_it(
    artifacts: dict[tuple[str, str], Artifact], plain_checkpoint: Checkpoint
) -> None:
    for kind in ("onnx", "openvino"):
        said = format_of(artifacts[kind, "INT8"].path).read_metadata(artifacts[kind, "INT8"].path)
        assert said["precision"] == "INT8"
        assert said["calibration"] == "scenes"
        assert said["preset"] == "performance"
        assert said["quantized_by"].startswith("nncf 3.")
        assert said["layers_in_float"].split() == IN_FLOAT
        assert "layers_in_float" not in format_of(artifacts[kind, "FP32"].path).read_metadata(
            artifacts[kind, "FP32"].path
        )
    folder = artifacts["onnx", "INT8"].path.parents[2]
    shown = sshtool("info", "--checkpoint", plain_checkpoint.params_path, "--json", "-o", folder).stdout
    quantized = json.loads(shown)["result"]["quantized"]
    assert set(quantized) == {str(artifacts[kind, "INT8"].path) for kind in ("onnx", "openvino")}
    assert all(said["layers_in_float"].split() == IN_FLOAT for said in quantized.values())
    assert (
        "layers in float: rpn_cls_score_stride32"
        in sshtool("info", "--checkpoint", plain_checkpoint.params_path, "-o", folder).stdout
    )


def test_info_says_why_a_broken_int8_file_cannot_be_read(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = tmp_path / "ssh-mxnet" / "INT8" / "ssh-mxnet.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    assert "no ONNX file" in sshtool("info", "--checkpoint", demo_checkpoint.params_path, "-o", tmp_path).stdout


# --- calibration data -------------------------------------------------------------------------------------------------


def test_the_images_of_a_folder_are_letterboxed_and_recorded_by_name_and_hash(
    folder: Path,
) -> None:
    found = calibration_images(MODEL, INT8, folder)
    assert found.count == 3
    assert found.record["calibration"] == "3 images"
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.png", "b ä.jpg", "c.bmp")}
    assert found.record["calibration_images"] == ", ".join(f"{name} sha256:{hashes[name]}" for name in hashes)
    wide = found.read(0)
    assert wide.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(wide[SIZE * 100 // 160 :], np.broadcast_to(MODEL.image.mean_pixel, (48, SIZE, 3)))
    np.testing.assert_array_equal(found.read(2)[:, :, 0].shape, (SIZE, SIZE))


def test_images_are_the_same_by_what_they_show_and_blank_ones_show_nothing(folder: Path) -> None:
    with Image.open(folder / "a.png") as picture:
        picture.save(folder / "a again.bmp")
        picture.save(folder / "a again.png", compress_level=1)
    for number in range(30):
        Image.new("RGB", (64 + number, 64)).save(folder / f"black{number}.png")
    Image.new("L", (64, 64), 200).save(folder / "grey.jpg")
    seen: dict[int, str] = {}
    found = calibration_images(MODEL, INT8, folder, seen)
    for number in range(found.count):
        found.read(number)
    assert len(seen) == found.count == 36
    assert len(set(seen.values()) - {""}) == 3


@pytest.mark.parametrize("count", [29, 30])
def test_less_than_30_different_images_are_noted(
    count: int, plain_checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(count - 3):
        Image.fromarray(draw_scene(seed, 64, 80).image).save(folder / f"{seed}.png")
        Image.new("RGB", (64, 64)).save(folder / f"black {seed}.png")

    def read_all(_checkpoint: Checkpoint, _options: Options, images: CalibrationImages, **_: Any) -> Quantization:
        """Which takes half a minute otherwise."""
        for number in range(images.count):
            images.read(number)
        return Quantization({}, {})

    monkeypatch.setattr("sshconvert.calibration.calibrate", read_all)
    notes: list[str] = []
    quantization_for(plain_checkpoint, INT8, QuantizationOptions(folder), note=notes.append)
    assert [f"of which {count} are different" in note for note in notes] == [True] * (count < 30)


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_written(
    plain_checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    (folder / "b2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(ImageError, match=r"b2\.png: .*; \w+"):
        quantization_for(plain_checkpoint, INT8, QuantizationOptions(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "INT8"], "--calibration-data"),
        (["--precision", "INT8", "--dry-run"], "--calibration-data"),
        (["--precision", "FP16", "--max-drop", "1"], "are for INT8"),
        (["--precision", "FP16", "--calibration-data", "."], "are for INT8"),
        (["--precision", "INT8", "--calibration-data", ".", "--max-drop", "-1"], "--max-drop"),
        (["--precision", "INT8", "--calibration-data", ".", "--max-drop", "nan"], "--max-drop"),
        (["--precision", "INT8", "--calibration-data", "nowhere"], "nowhere"),
        (["--precision", "INT8", "--calibration-data", str(Path(__file__).parent)], "no image"),
    ],
    ids=["none", "none, planned", "drop of FP16", "data for FP16", "less than 0", "no number", "no folder", "no image"],
)
def test_what_contradicts_itself_or_is_missing_is_refused_at_once(
    arguments: Sequence[str], message: str, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = plain_checkpoint.params_path.parent
    error = sshtool("convert", "--checkpoint", folder, "-o", tmp_path / "out", *arguments, code=2).stderr
    assert message in error
    assert not (tmp_path / "out").exists()


def test_without_a_quantization_the_library_refuses(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="calibrate"):
        convert(plain_checkpoint, tmp_path, INT8)
    assert not list(tmp_path.iterdir())


def test_a_quantization_of_another_network_is_refused(plain_checkpoint: Checkpoint, quantization: Quantization) -> None:
    other = replace(quantization, weights={**quantization.weights, "conv9_9": quantization.weights["conv1_2"]})
    with pytest.raises(PrecisionError, match="conv9_9"):
        to_onnx(plain_checkpoint, INT8, other)


def test_weights_that_are_not_finite_are_refused(plain_checkpoint: Checkpoint, quantization: Quantization) -> None:
    spoiled = plain_checkpoint.parameters["conv3_1_weight"].copy()
    spoiled.flat[7] = np.nan
    checkpoint = replace(plain_checkpoint, parameters={**plain_checkpoint.parameters, "conv3_1_weight": spoiled})
    with pytest.raises(PrecisionError, match="conv3_1_weight"):
        to_onnx(checkpoint, INT8, quantization)


def test_without_nncf_the_error_names_the_extra(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    code = "import sys; sys.modules['nncf'] = None; from sshtool.main import main; sys.argv[0] = 'sshtool'; main()"
    command = [sys.executable, "-c", code, "convert", "--checkpoint", str(demo_checkpoint.params_path), *SMALL]
    result = subprocess.run([*command, "-o", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "nncf" in result.stderr
    assert "pip install" in result.stderr
    assert not (tmp_path / "out").exists()


# --- layers in float --------------------------------------------------------------------------------------------------


def test_layers_are_ranked_by_what_rounding_does_to_them(
    plain_checkpoint: Checkpoint, quantization: Quantization
) -> None:
    ranked = rank_layers(plain_checkpoint, INT8, quantization, scenes(1))
    assert sorted(ranked) == sorted(quantization.layers)
    spoiled = ranked[-1]
    levels = quantization.weights[spoiled]
    coarse = {**quantization.weights, spoiled: replace(levels, scale=levels.scale * np.float32(50))}
    assert rank_layers(plain_checkpoint, INT8, replace(quantization, weights=coarse), scenes(1))[0] == spoiled


def test_a_layer_left_in_float_computes_as_it_did(plain_checkpoint: Checkpoint, quantization: Quantization) -> None:
    fewer = quantization.without(["conv2_1", "ssh_m3_det_conv1"])
    assert fewer.ignored == (*quantization.ignored, "conv2_1", "ssh_m3_det_conv1")
    made = Quantize(fewer).apply(original(plain_checkpoint, INT8))
    nodes = {node.name: node for node in made.nodes}
    assert list(nodes["conv2_1"].input) == ["pool1", "conv2_1_weight", "conv2_1_bias"]
    assert list(nodes["pool1"].input) == ["relu1_2"]
    assert list(nodes["pooling0"].input) == ["relu5_3_dequantized"], "its other reader is still quantized"
    nothing = Quantize(quantization.without(quantization.layers)).apply(original(plain_checkpoint, INT8))
    assert Counter(node.op_type for node in nothing.nodes)["QuantizeLinear"] == 0


@pytest.fixture(scope="module")
def demo_quantization(demo_checkpoint: Checkpoint) -> Quantization:
    return calibrate(demo_checkpoint, INT8, scenes())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few scenes, because the machine that tests has only two cores."""
    monkeypatch.setattr("sshtool.quantization.CALIBRATION_SEEDS", range(300_000, 300_002))
    monkeypatch.setattr("sshtool.quantization.DROP_SEEDS", range(400_000, 400_005))


@pytest.mark.long
@pytest.mark.usefixtures("few")
def test_a_drop_that_is_kept_leaves_all_as_it_is_and_is_recorded(
    demo_checkpoint: Checkpoint, demo_quantization: Quantization
) -> None:
    """Also shows that the demo is calibrated on scenes without being asked to."""
    found = quantization_for(demo_checkpoint, INT8, QuantizationOptions(max_drop=100))
    assert found is not None
    assert found.ignored == demo_quantization.ignored
    assert re.fullmatch(r"-?[\d.]+ points of AP@0.5 on 5 drawn scenes, seeds .*, 100 allowed", found.metadata["drop"])


def coarse(quantization: Quantization, layers: Sequence[str]) -> Quantization:
    """A quantization with which some layers are useless."""
    steps = {name: quantization.weights[name] for name in layers}
    worse = {name: replace(levels, scale=levels.scale * np.float32(200)) for name, levels in steps.items()}
    return replace(quantization, weights={**quantization.weights, **worse})


@pytest.mark.long
@pytest.mark.usefixtures("few")
def test_the_search_leaves_the_worst_layer_in_float_and_says_so(
    demo_checkpoint: Checkpoint, demo_quantization: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = coarse(demo_quantization, ["conv4_2"])
    monkeypatch.setattr("sshconvert.calibration.calibrate", lambda *_, **__: spoiled)
    found = quantization_for(demo_checkpoint, INT8, QuantizationOptions(max_drop=5))
    assert found is not None
    assert "conv4_2" in found.ignored
    assert len(found.ignored) < len(IN_FLOAT) + 8
    said = re.match(r"(-?[\d.]+) points of AP@0.5", found.metadata["drop"])
    assert said is not None
    assert float(said[1]) <= 5


@pytest.mark.long
@pytest.mark.usefixtures("few")
def test_a_drop_that_cannot_be_kept_is_an_error_and_nothing_is_written(
    demo_checkpoint: Checkpoint, demo_quantization: Quantization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = coarse(demo_quantization, list(demo_quantization.weights)[:12])
    monkeypatch.setattr("sshconvert.calibration.calibrate", lambda *_, **__: spoiled)
    path, out = demo_checkpoint.params_path, tmp_path / "out"
    with pytest.raises(PrecisionError, match=r"--max-drop.*INT8"):
        convert_checkpoint(Workspace(MODEL, out), INT8, QuantizationOptions(max_drop=5), checkpoint=path)
    assert not list(out.rglob("*.*"))


# --- verification -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_artifacts(
    demo_checkpoint: Checkpoint, demo_quantization: Quantization, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    made = convert(demo_checkpoint, tmp_path_factory.mktemp("demo"), BOTH, quantization=demo_quantization)
    return {(artifact.format, artifact.precision.value): artifact for artifact in made}


@pytest.fixture(scope="module")
def exact(demo_artifacts: dict[tuple[str, str], Artifact]) -> LiveReference:
    return LiveReference(load(demo_artifacts["onnx", "FP32"].path, MODEL), MODEL)


# Faults that are larger than what rounding does. In FP32 and FP16, all others are found too.
GROSS: Final = (
    "channels not reversed",
    "mean missing",
    "declares the wrong mean",
    "two outputs swapped",
    "one bias zeroed",
    "two layers exchanged",
    "softmax on the wrong axis",
    "anchors exchanged",
    "background and face exchanged",
    "declares another checkpoint",
    "file cut off in the middle",
    "background score taken for face score",
)


@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.long)])
def test_a_healthy_int8_file_passes_and_one_with_a_gross_fault_does_not(
    kind: str, demo_artifacts: dict[tuple[str, str], Artifact], exact: LiveReference
) -> None:
    candidate = Candidate(demo_artifacts[kind, "INT8"].path, "INT8")
    report = verify(MODEL, exact, [candidate])
    assert report.passed, [failure.message for failure in report.failures]
    assert report.artifacts[0].profile.name == "INT8"
    assert "noise" in report.artifacts[0].skipped
    faults = [fault for fault in faults_of(MODEL) if fault.name in GROSS]
    tested = self_test(MODEL, exact, [candidate], faults=faults)
    assert {result.fault: result.verdict for result in tested.faults} == dict.fromkeys(GROSS, Verdict.CAUGHT)


def test_integers_hold_no_nan(demo_artifacts: dict[tuple[str, str], Artifact], exact: LiveReference) -> None:
    (spoiled,) = (fault for fault in faults_of(MODEL) if fault.name == "one weight not a number")
    candidate = Candidate(demo_artifacts["onnx", "INT8"].path, "INT8")
    (result,) = self_test(MODEL, exact, [candidate], faults=[spoiled]).faults
    assert (result.verdict, result.reason) == (
        Verdict.NOT_PLANTED,
        "the file stores integers, which cannot hold NaN or infinity",
    )


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_int8_finds_the_faces_of_scenes_that_nobody_has_seen_before(
    demo_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At full size: within half a point of FP32, in a quarter of its bytes. Prints the table."""
    options = Options(precisions=(Precision.FP32, Precision.INT8))
    quantization = quantization_for(demo_checkpoint, options, QuantizationOptions())
    made = convert(demo_checkpoint, tmp_path, options, quantization=quantization)
    drawn = [draw_scene(seed) for seed in range(50)]
    found, sizes = {}, {}
    for artifact in made:
        runtime = load(artifact.path, MODEL)
        boxes = [MODEL.task.decode(runtime.run(scene.image[None]), (640, 640))[0] for scene in drawn]
        key = (artifact.format, artifact.precision.value)
        found[key] = 100 * average_precision(boxes, [scene.faces for scene in drawn])
        sizes[key] = sum(path.stat().st_size for path in artifact.files)
    with capsys.disabled():
        for key, points in found.items():
            sys.stdout.write(f"{key[0]:9} {key[1]}  AP@0.5 {points:.2f}  {sizes[key] / 1e6:.1f} MB\n")
    for kind in ("onnx", "openvino"):
        assert found[kind, "INT8"] >= found[kind, "FP32"] - 0.5
        assert sizes[kind, "INT8"] <= 0.3 * sizes[kind, "FP32"]
