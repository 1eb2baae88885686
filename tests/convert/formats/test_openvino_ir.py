from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, convert, to_onnx
from sshconvert.errors import PrecisionError
from sshconvert.ir import CONTRACT, IntermediateRepresentation
from sshconvert.libraries import import_openvino
from sshconvert.model_api import MODEL_INFO
from sshconvert.options import Options, Precision
from sshconvert.passes.fp16 import SMALLEST_HALVED

IR_ONLY = Options(formats=("openvino",), precisions=(Precision.FP32, Precision.FP16))

# What `mo` of OpenVINO 2023.3, the last one with an MXNet frontend, made of the same network.
MO_CENSUS = {
    "Constant": 84,
    "Add": 39,
    "Convolution": 37,
    "Relu": 25,
    "Reshape": 6,
    "MaxPool": 5,
    "Concat": 3,
    "Softmax": 3,
    "GroupConvolutionBackpropData": 1,
}


@pytest.fixture(scope="module")
def artifacts(full_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, ...]:
    return convert(full_checkpoint, tmp_path_factory.mktemp("ir"), IR_ONLY)


def read(artifact: Artifact) -> Any:
    return import_openvino().Core().read_model(str(artifact.path))


def census(model: Any) -> Counter[str]:
    return Counter(
        node.get_type_name() for node in model.get_ops() if node.get_type_name() not in ("Parameter", "Result")
    )


# Of the Crop, so that it follows the shapes of the run: `mo` left it out, and its IR is wrong at some other sizes.
OF_THE_CROP: Final = {"Constant": 7, "ShapeOf": 1, "Gather": 1, "Slice": 1, "Concat": 1, "Reshape": 1}


def test_the_ir_has_no_more_operations_than_mo_made_but_those_of_the_crop(artifacts: tuple[Artifact, ...]) -> None:
    counted = census(read(artifacts[0]))
    most = Counter(MO_CENSUS) + Counter(OF_THE_CROP)
    assert counted.keys() == most.keys()
    assert all(counted[name] <= most[name] for name in most), counted


def test_outputs_have_the_bare_names_in_the_order_of_the_model_card(
    artifacts: tuple[Artifact, ...], plain_checkpoint: Checkpoint
) -> None:
    for artifact in artifacts:
        model = read(artifact)
        assert [output.names for output in model.outputs] == [{name} for name in plain_checkpoint.model.output_names]
        assert model.input(0).names == {"data"}
        assert not re.search(r'names?="[^"]*:\d', artifact.path.read_text(encoding="utf-8"))


def test_fp32_is_fp32_and_fp16_halves_the_file(artifacts: tuple[Artifact, ...]) -> None:
    fp32, fp16 = artifacts
    assert "f16" not in fp32.path.read_text(encoding="utf-8")
    assert fp16.files[1].stat().st_size <= 0.51 * fp32.files[1].stat().st_size
    assert census(read(fp16))["Convert"] == 30


def test_fp16_keeps_exact_what_is_small(artifacts: tuple[Artifact, ...]) -> None:
    model = read(artifacts[1])
    means = [node for node in model.get_ops() if node.get_friendly_name() == "data_minus_mean"]
    constant = means[0].input_value(1).get_node()
    np.testing.assert_array_equal(np.abs(constant.data.ravel()), np.array([103.939, 116.779, 123.68], np.float32))
    halves = [node for node in model.get_ops() if str(node.get_output_element_type(0)) == "<Type: 'float16'>"]
    assert min(np.prod(node.get_output_shape(0)) for node in halves) >= SMALLEST_HALVED
    assert len(halves) == 30


def test_the_contract_is_apart_from_what_model_api_reads(artifacts: tuple[Artifact, ...]) -> None:
    expected = {"mean_values": "0 0 0", "color_order": "BGR", "precision": "FP32"}
    model = read(artifacts[0])
    assert {key: model.get_rt_info([CONTRACT, key]).value for key in expected} == expected
    assert not model.has_rt_info(MODEL_INFO)  # heads need the caller's decoding


def test_a_second_conversion_gives_the_same_bytes_in_this_process_and_in_another(
    full_checkpoint: Checkpoint, artifacts: tuple[Artifact, ...], tmp_path: Path
) -> None:
    again = convert(full_checkpoint, tmp_path / "again", IR_ONLY)
    command = [sys.executable, "-m", "sshtool", "convert", "--quiet", "--output-dir", str(tmp_path / "other")]
    checkpoint = ["--checkpoint", str(full_checkpoint.params_path.parent)]
    subprocess.run([*command, *checkpoint, "--format", "openvino", "--precision", "FP32,FP16"], check=True)
    for first, second in zip(artifacts, again, strict=True):
        for one, two in zip(first.files, second.files, strict=True):
            expected = one.read_bytes()
            assert two.read_bytes() == expected
            assert (tmp_path / "other" / two.relative_to(tmp_path / "again")).read_bytes() == expected


def test_an_ir_is_the_same_whatever_is_made_beside_it(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    shape = (1, 3, 64, 64)
    alone = convert(plain_checkpoint, tmp_path / "alone", Options(("openvino",), (Precision.FP16,), shape))[0]
    both = Options(("onnx", "openvino"), (Precision.FP32, Precision.FP16), shape)
    beside = convert(plain_checkpoint, tmp_path / "beside", both)[3]
    for one, other in zip(alone.files, beside.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "framework" not in alone.path.read_text(encoding="utf-8")


def test_weights_that_fp16_cannot_hold_are_refused_before_anything_is_written(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    large = plain_checkpoint.parameters["conv4_2_weight"] + np.float32(70000)
    checkpoint = replace(plain_checkpoint, parameters={**plain_checkpoint.parameters, "conv4_2_weight": large})
    with pytest.raises(PrecisionError, match="conv4_2_weight"):
        convert(checkpoint, tmp_path / "out", IR_ONLY)
    assert not (tmp_path / "out").exists()


def test_an_ir_alone_leaves_no_onnx_and_no_staging_behind(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(("openvino",), (Precision.FP16,), (1, 3, 64, 64))
    convert(plain_checkpoint, tmp_path, options)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["FP16", "ssh-mxnet", "ssh-mxnet.bin", "ssh-mxnet.xml"]


def test_the_ir_equals_what_openvino_devs_mo_makes_of_the_plain_onnx(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import_openvino()  # before anything else does, with its telemetry
    pytest.importorskip("openvino.tools.mo", reason="openvino-dev, whose mo is the oracle, is not installed")
    plain = convert(
        plain_checkpoint,
        tmp_path / "plain",
        Options(("onnx",), (Precision.FP32,), (1, 3, 160, 160), preprocessing=False),
    )
    ours = convert(plain_checkpoint, tmp_path / "ours", Options(("openvino",), (Precision.FP32,), (1, 3, 160, 160)))
    # mo reports to its maker too, unless the package that does it cannot be imported.
    start = "import sys; sys.modules['openvino_telemetry'] = None; from openvino.tools.mo.main import main; "
    start += (
        "from openvino.tools.mo.utils.cli_parser import get_all_cli_parser; sys.exit(main(get_all_cli_parser(), None))"
    )
    script = [sys.executable, "-c", start, "--input_model", str(plain[0].path), "--output_dir", str(tmp_path / "mo")]
    arguments = ["--reverse_input_channels", "--mean_values", "[123.68,116.779,103.939]", "--compress_to_fp16=False"]
    subprocess.run([*script, *arguments], check=True, capture_output=True)
    image = np.random.RandomState(7).randint(0, 256, (1, 3, 160, 160)).astype(np.float32)
    core = import_openvino().Core()
    results = []
    for path in (ours[0].path, tmp_path / "mo" / "ssh-mxnet.xml"):
        compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results.append({port.any_name: np.array(value) for port, value in compiled([image]).items()})
    for name, expected in results[1].items():
        np.testing.assert_array_equal(results[0][name], expected)


def test_without_openvino_the_remedy_is_named() -> None:
    script = (
        "import sys; sys.modules['openvino'] = None\n"
        "from sshconvert.errors import RuntimeUnavailableError\n"
        "from sshconvert.libraries import import_openvino\n"
        "try: import_openvino()\nexcept RuntimeUnavailableError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("OpenVINO: cannot be imported")
    assert re.search(r"pip install .*openvino>=", result.stdout)


def test_what_openvino_cannot_write_is_an_error_of_the_system(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    to_onnx(plain_checkpoint, Options(input_shape=(1, 3, 64, 64))).write(tmp_path / "a.onnx")
    ir = IntermediateRepresentation(tmp_path / "a.onnx", name="a")
    with pytest.raises(OSError, match=r"^OpenVINO: "):
        ir.save(tmp_path / "a.onnx" / "a.xml", {})  # a folder that is a file


@pytest.mark.parametrize("part", [".xml", ".bin"])
def test_an_ir_of_which_openvino_wrote_only_a_part_is_noticed(
    part: str, plain_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO says nothing if the disk is full: here it is cut behind its back."""
    to_onnx(plain_checkpoint, Options(input_shape=(1, 3, 64, 64))).write(tmp_path / "a.onnx")
    ir = IntermediateRepresentation(tmp_path / "a.onnx", name="a")
    openvino = import_openvino()
    whole = openvino.save_model

    def cut(model: Any, path: str, **options: Any) -> None:
        whole(model, path, **options)
        written = Path(path).with_suffix(part)
        os.truncate(written, written.stat().st_size - 10)

    monkeypatch.setattr(openvino, "save_model", cut)
    with pytest.raises(OSError, match="wrote only a part"):
        ir.save(tmp_path / "b.xml", {})
