"""The format ncnn: its options, its names and its weights, without ncnn and pnnx, which `tests/consumers` runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sshconvert.contract import Contract, Tensor
from sshconvert.errors import ArtifactError, FormatError, PrecisionError, RuntimeUnavailableError
from sshconvert.formats import ncnn
from sshconvert.formats.ncnn import Ncnn
from sshconvert.formats.registry import artifact_files, format_of, main_file
from sshconvert.libraries import is_installed
from sshconvert.options import Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.validation.ncnn import FLOAT16, NcnnLayer, NcnnWeights

pytestmark = pytest.mark.independent

CONTRACT = Contract(
    {"precision": "FP32"},
    (Tensor("data", "float32", (1, 3, 12, 16)),),
    (Tensor("boxes", "float32", (1, 4)), Tensor("2", "float32", (1, 5))),
)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (Options(dynamic=Dynamic.SIZE), "a dynamic size"),
        (Options(precisions=(Precision.FP32, Precision.INT8)), "INT8 weights"),
        (Options(postprocessing=Postprocessing()), "post-processing inside"),
        (Options(input_type=InputType.UINT8), "a uint8 input"),
        (Options(layout=Layout.NHWC), "the layout NHWC"),
        (Options(input_shape=(2, 3, 64, 64)), "a batch"),
    ],
)
def test_an_option_without_a_form_is_refused_by_its_name(options: Options, refused: str) -> None:
    with pytest.raises(FormatError, match=f"^ncnn: the format has no form for {refused}; "):
        Ncnn.accept(options)


def test_fixed_images_in_both_float_precisions_are_accepted() -> None:
    Ncnn.accept(Options(("ncnn",), (Precision.FP32, Precision.FP16), (1, 3, 64, 64)))


@pytest.mark.skipif(is_installed("pnnx"), reason="pnnx is installed")
def test_without_its_packages_the_remedy_names_both() -> None:
    with pytest.raises(
        RuntimeUnavailableError, match=r"^ncnn, pnnx: cannot be imported \(not installed\); .*install.*ncnn"
    ) as error:
        Ncnn.require()
    assert "\n" not in str(error.value)


def test_three_files_belong_together_and_none_of_them_to_an_ir(tmp_path: Path) -> None:
    path = tmp_path / "net-0.25.ncnn.param"
    assert format_of(path) is Ncnn
    assert [file.name for file in artifact_files(path)] == [
        "net-0.25.ncnn.param", "net-0.25.ncnn.bin", "net-0.25.ncnn.json",
    ]  # fmt: skip
    assert all(main_file(file) == path for file in artifact_files(path)[1:])
    assert main_file(tmp_path / "net.bin") == tmp_path / "net.xml"
    for other in ("net.param", ".ncnn.param", "net.ncnn"):
        with pytest.raises(ArtifactError, match="is no artifact"):
            format_of(tmp_path / other)


def test_blobs_get_the_names_and_the_input_its_shape() -> None:
    text = "7767517\n4 5\nInput in0 0 1 in0\nSplit s 1 2 in0 1 2\nReLU a 1 1 1 out1\nClip b 1 1 2 out0 0=0.0 1=6.0\n"
    lines = [" ".join(line.split()) for line in ncnn._named(text, CONTRACT).splitlines()]
    assert lines[2:] == [
        "Input data 0 1 data 0=16 1=12 2=3",
        "Split s 1 2 data 1 inner_2",
        "ReLU a 1 1 1 2",
        "Clip b 1 1 inner_2 boxes 0=0.0 1=6.0",
    ]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("data", "float32", (-1, 3, 12, 16)), "which is not fixed"),
        (Tensor("data", "int32", (1, 3)), "is int32 of shape"),
        (Tensor("data", "float32", (2, 3, 12, 16)), "tensors of one sample"),
        (Tensor("data", "float32", (1, 1, 1, 1, 1, 1)), "tensors of one sample"),
        (Tensor("the data", "float32", (1, 3)), "'the data' is no name of a blob"),
        (Tensor("d" * 201, "float32", (1, 3)), "is no name of a blob"),
    ],
)
def test_a_tensor_that_no_blob_can_be_is_refused(tensor: Tensor, message: str) -> None:
    ncnn._check_tensors(CONTRACT)
    with pytest.raises(FormatError, match=message):
        ncnn._check_tensors(dataclasses.replace(CONTRACT, inputs=(tensor,)))


def test_weights_are_rounded_to_the_nearest_float16_and_biases_are_not() -> None:
    layer = NcnnLayer("Convolution", "body", ("1",), ("2",), "")
    weights = np.array([1 + 2**-11 + 2**-12, -1 - 2**-12, 1 / 3], np.float32)
    bias = np.array([1 / 3], np.float32)
    data = bytes(4) + weights.tobytes() + bias.tobytes()
    stored = (NcnnWeights(layer, 4, 3, 4, marked=True), NcnnWeights(layer, 16, 1, 4, marked=False))
    halved = ncnn._halved(data, stored)
    assert halved[:4] == FLOAT16.to_bytes(4, "little")
    assert np.frombuffer(halved, np.float16, 3, 4).tolist() == [1 + 2**-10, -1, float(np.float16(1 / 3))]
    assert halved[10:12] == bytes(2)
    assert halved[12:] == bias.tobytes()
    with pytest.raises(PrecisionError, match="the weights of body are beyond float16"):
        ncnn._halved(bytes(4) + (weights * 1e5).tobytes() + bias.tobytes(), stored)
